"""An app whose handlers may be called so many times a second, over all hosts."""

from __future__ import annotations

import time

from rolekit import App, Context, Message, Rate, WorkerRole, handle


class Call(Message):
    """Calls the handler with a rate for all."""


class KeyedCall(Message):
    """Calls the handler with a rate for each key."""

    who: str


class Paced(WorkerRole):
    """Notes when it is called."""

    @handle(rate=Rate(60))
    async def call(self, call: Call, ctx: Context) -> None:
        ctx.write("insert into call values ('', $1, $2)", time.time(), ctx.attempt)

    @handle(rate=Rate(10, key="who"))
    async def keyed(self, call: KeyedCall, ctx: Context) -> None:
        """Note it, by key."""
        ctx.write("insert into call values ($1, $2, $3)", call.who, time.time(), ctx.attempt)


app = App("paced", roles=[Paced])
