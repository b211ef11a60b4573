"""An app whose messages must take effect in the order of their keys."""

from __future__ import annotations

import asyncio
import os

from rolekit import App, Backoff, Context, Message, WorkerRole, handle


class Put(Message):
    """One entry for a key.

    Attributes:
        wait_s: How long its handler takes.
        fails: How many attempts fail.
    """

    who: str
    n: int
    wait_s: float = 0
    fails: int = 0


class Ledger(WorkerRole):
    """Writes entries down, with the process that did."""

    partitions = 16
    concurrency = 16

    @handle(key="who", retry=Backoff(attempts=9, first_s=0.1, factor=1))
    async def put(self, put: Put, ctx: Context) -> None:
        """Write one down."""
        await asyncio.sleep(put.wait_s)
        if ctx.attempt <= put.fails:
            raise ValueError(f"attempt {ctx.attempt} fails, as told")
        ctx.write(
            "insert into done (who, n, pid) values ($1, $2, $3)", put.who, put.n, os.getpid()
        )


app = App("keyed", roles=[Ledger])

TABLE = "create table done (at bigserial primary key, who text, n int, pid int)"
