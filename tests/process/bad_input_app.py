"""An app for bad input, and two that cannot start; run by the real command."""

from __future__ import annotations

from collections.abc import AsyncIterator

from rolekit import (
    App,
    Context,
    Hole,
    Message,
    Receipt,
    Run,
    WebRole,
    WorkerRole,
    gather,
    handle,
)
from rolekit import web as http


class Job(Message):
    """Split into parts."""

    parts: int


class Part(Message):
    """One of them; `tree` may be anything, so that its depth is not bounded by its class."""

    i: int
    tree: object = None


class Done(Message):
    """A part that was handled."""

    i: int


class Orphan(Message):
    """Nobody takes it."""


class Split(WorkerRole):
    """Splits."""

    @handle
    async def split(self, job: Job) -> AsyncIterator[Part]:
        for i in range(job.parts):
            yield Part(i=i)


class Work(WorkerRole):
    """Handles parts."""

    @handle
    async def work(self, part: Part) -> Done:
        return Done(i=part.i)


class Collect(WorkerRole):
    """Writes down what came, and what did not."""

    @gather
    async def collect(self, job: Job, run: Run[Done | Hole], ctx: Context) -> None:
        for place, part in enumerate(run, run.offset):
            what = part.detail if isinstance(part, Hole) else f"done {part.i}"
            ctx.write("insert into public.collected values ($1, $2)", place, what)


class Front(WebRole):
    """Listens."""

    bind = "127.0.0.1:0"

    @http.post("/jobs", status=202)
    async def job(self, job: Job) -> Receipt:
        return await self.client.send(job)


class Careless(WorkerRole):
    """Returns what nobody takes."""

    @handle
    async def forget(self, job: Job) -> Orphan:
        return Orphan()


app = App("bad", roles=[Split, Work, Collect, Front])
careless = App("careless", roles=[Careless])
