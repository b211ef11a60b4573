"""An app whose messages are delayed, each by another cause."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from rolekit import App, Batch, Context, Message, Reply, Retry, Run, WorkerRole, gather, handle

LONG_S = 1.5


class Queued(Message):
    """Waits for those before it."""

    n: int


class Heavy(Message):
    """Its handler takes long."""

    n: int


class Flaky(Message):
    """Its first attempt fails."""

    n: int


class Deadly(Message):
    """Its first attempt kills the instance; `marker` says that it did."""

    marker: str


class Whole(Message):
    """Split into parts, of which the first fails at first."""

    parts: int


class Part(Message):
    """One of them."""

    n: int


class Ready(Message):
    """A part that is done."""

    n: int


class Item(Message):
    """Handled with others."""

    n: int


class Counted(Message):
    """What became of one."""

    n: int


class Wanted(Message):
    """Somebody waits for its reply."""

    n: int


class Given(Reply):
    """It."""

    n: int


class Narrow(WorkerRole):
    """One at a time."""

    concurrency = 1

    @handle
    async def queued(self, message: Queued) -> None:
        await asyncio.sleep(LONG_S / 2)


class Wide(WorkerRole):
    """Many at a time."""

    @handle
    async def heavy(self, message: Heavy) -> None:
        await asyncio.sleep(LONG_S)

    @handle
    async def flaky(self, message: Flaky, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise Retry("the mail server is busy", delay_s=LONG_S)

    @handle
    async def wanted(self, message: Wanted) -> Given:
        return Given(n=message.n)

    @handle
    async def split(self, message: Whole) -> AsyncIterator[Part]:
        for n in range(message.parts):
            yield Part(n=n)

    @handle
    async def part(self, part: Part, ctx: Context) -> Ready:
        if part.n == 0 and ctx.attempt == 1:
            raise Retry("part 0 is not there yet", delay_s=LONG_S)
        return Ready(n=part.n)

    @gather
    async def whole(self, message: Whole, run: Run[Ready]) -> None: ...


class Together(WorkerRole):
    """Takes batches; one of their items fails."""

    @handle(age_s=0.2)
    async def many(self, batch: Batch[Item]) -> list[Counted | None]:
        for at, item in enumerate(batch):
            if item.n < 0:
                batch.reject(at, "below zero")
        return [Counted(n=item.n) for item in batch]

    @handle
    async def counted(self, counted: Counted) -> None: ...


class Mortal(WorkerRole):
    """Dies of its work."""

    @handle
    async def deadly(self, message: Deadly) -> None:
        marker = Path(message.marker)
        if not marker.exists():
            marker.touch()
            await asyncio.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)


app = App("why", roles=[Narrow, Wide, Together, Mortal])
