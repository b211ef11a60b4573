"""Orders that come over HTTP and take effect in a worker; two versions of it.

The new one sends a type that the old one does not know, to a handler that both have.
"""

from __future__ import annotations

import os

from rolekit import App, Context, Message, Reply, WebRole, WorkerRole, handle, web


class Order(Message, name="roll.order"):
    """One thing to do, once."""

    number: int


class Express(Message, name="roll.express"):
    """Likewise; what only the new version knows."""

    number: int


class Take(Message, name="roll.take"):
    """What is posted: the first of so many orders."""

    first: int
    count: int


class Taken(Reply, name="roll.taken"):
    """They are durable."""

    pid: int


EFFECT = "insert into effect (number, version) values ($1, $2)"


class Clerk(WorkerRole):
    """Has orders take effect."""

    instances = 16
    concurrency = 20

    @handle
    async def order(self, order: Order, ctx: Context) -> None:
        ctx.write(EFFECT, order.number, 1)


class Desk(WebRole):
    """Takes orders."""

    bind = "127.0.0.1:0"
    instances = 4

    @web.post("/orders")
    async def take(self, take: Take) -> Taken:
        numbers = range(take.first, take.first + take.count)
        await self.client.send_many([Order(number=number) for number in numbers])
        return Taken(pid=os.getpid())


class NewClerk(WorkerRole):
    """The same role, which knows one type more."""

    instances = 16
    concurrency = 20

    @handle(name="Clerk.order")
    async def order(self, order: Order | Express, ctx: Context) -> None:
        ctx.write(EFFECT, order.number, 2)


class NewDesk(WebRole):
    """The same role; every second order is of the new type."""

    bind = "127.0.0.1:0"
    instances = 4

    @web.post("/orders")
    async def take(self, take: Take) -> Taken:
        await self.client.send_many(
            [
                (Express if number % 2 else Order)(number=number)
                for number in range(take.first, take.first + take.count)
            ]
        )
        return Taken(pid=os.getpid())


def _called(cls: type, name: str) -> type:
    cls.__name__ = cls.__qualname__ = name
    return cls


app = App("roll", roles=[Clerk, Desk])
_called(NewClerk, "Clerk")
_called(NewDesk, "Desk")
new = App("roll", roles=[NewClerk, NewDesk])
