"""An app of a direct step and a recorded one, for `rolekit replay`."""

from __future__ import annotations

from rolekit import App, Context, Message, WorkerRole, handle


class Job(Message):
    """A number."""

    n: int


class Started(Message):
    """It went through the direct step."""

    n: int


class Worker(WorkerRole):
    """Both steps."""

    @handle
    async def start(self, job: Job) -> Started:
        """Pass it on."""
        return Started(n=job.n)

    @handle
    async def end(self, started: Started, ctx: Context) -> None:
        """Write it down."""
        ctx.write("insert into done values ($1)", started.n)


app = App("again", roles=[Worker])
