"""An app that is called each half second, and writes down for what time."""

from __future__ import annotations

from rolekit import App, Context, Message, WorkerRole, every, handle


class Due(Message):
    """A firing, on its way through one more handler."""

    at_ms: int


class Clock(WorkerRole):
    """Is called by time, and notes it."""

    @every(0.5)
    async def tick(self, ctx: Context) -> Due:
        at_ms = round(ctx.sent_at.timestamp() * 1000)
        ctx.write("insert into tick values ($1)", at_ms)
        return Due(at_ms=at_ms)

    @handle
    async def tock(self, due: Due, ctx: Context) -> None:
        """Note that it came through the queues."""
        ctx.write("insert into tock values ($1)", due.at_ms)


app = App("clock", roles=[Clock])
