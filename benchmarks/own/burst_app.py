"""A role that scales by itself: each message waits for something outside, and writes a row."""

from __future__ import annotations

import asyncio

from rolekit import App, Context, Message, Scale, WorkerRole, handle

WAIT_S = 0.1


class Letter(Message):
    """Something to deliver."""

    number: int


class Deliverer(WorkerRole):
    """Delivers 100 a second."""

    concurrency = 10
    scale = Scale(min=1, max=16, target_age_s=5)

    @handle
    async def deliver(self, letter: Letter, ctx: Context) -> None:
        """Wait, and note which it was."""
        await asyncio.sleep(WAIT_S)
        ctx.write("insert into delivered (number) values ($1)", letter.number)


app = App("burst", roles=[Deliverer])
