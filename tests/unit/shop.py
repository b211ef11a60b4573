"""An app that takes orders over HTTP, as small as there is one."""

from __future__ import annotations

from rolekit import App, Message, WebRole, WorkerRole, handle, web


class Order(Message):
    """What clients send."""

    n: int


class Front(WebRole):
    """Takes orders over HTTP."""

    @web.post("/orders")
    async def order(self, order: Order) -> None:
        await self.client.send(order)


class Work(WorkerRole):
    """Takes them from there."""

    @handle
    async def work(self, order: Order) -> None:
        """Do nothing."""


shop = App("shop", roles=[Front, Work])
