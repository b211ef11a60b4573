"""Two apps on one broker: one takes from a queue of another program, and sends to the other.

An order with a negative number kills the process that handles it, every time.
"""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import os

from rolekit import App, Context, Message, WorkerRole, handle

QUEUE = "legacy orders"


class Order(Message):
    n: int


class Invoice(Message):
    n: int


class Taking(WorkerRole):
    concurrency = 50

    @handle(source=QUEUE)
    async def take(self, order: Order, ctx: Context) -> Invoice:
        if order.n < 0:
            os._exit(9)
        ctx.write("insert into got values ('order', $1)", order.n)
        return Invoice(n=order.n)


class Booking(WorkerRole):
    concurrency = 50

    @handle
    async def book(self, invoice: Invoice, ctx: Context) -> None:
        ctx.write("insert into got values ('invoice', $1)", invoice.n)


orders = App("orders", roles=[Taking], outside={Invoice: "billing"})
billing = App("billing", roles=[Booking])
