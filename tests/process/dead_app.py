"""An app whose messages die in several ways; for the commands about dead letters."""

from __future__ import annotations

from rolekit import App, Backoff, Context, DeadLetter, Message, Reject, WorkerRole, handle

ONCE = Backoff(attempts=1)


class Order(Message):
    """Its statement is refused where the number is taken."""

    number: int
    note: str = ""


class Charge(Message, name="shop.charge"):
    """Always refused; and answered."""

    number: int


class Shop(WorkerRole):
    """Takes orders."""

    @handle(retry=ONCE)
    async def order(self, order: Order, ctx: Context) -> None:
        if order.note:
            raise Reject(order.note)
        ctx.write("insert into orders (number, secret) values ($1, $2)", order.number, "s3cret")

    @handle(retry=ONCE)
    async def charge(self, charge: Charge) -> None:
        raise Reject("no money")


class Undo(WorkerRole):
    """Answers."""

    @handle
    async def undo(self, dead: DeadLetter[Charge], ctx: Context) -> None:
        ctx.write("insert into undone values ($1)", dead.message.number)


app = App("deadly", roles=[Shop, Undo])
