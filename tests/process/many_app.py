"""A role of which there are many copies: each message says which process handled it.

Lines go to the file that HITS names: process id, number of the message. IDLE_S, if it is set,
is after how many seconds a connection to the database counts as idle.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from rolekit import App, Context, Message, WorkerRole, database, handle


class Work(Message):
    """One of many."""

    number: int


class Note(Message):
    """One of many that are written down."""

    number: int


class W(WorkerRole):
    """Writes nothing to the database: its steps are direct ones."""

    concurrency = 2

    @handle
    async def work(self, work: Work) -> None:
        """Say that it was here."""
        _hit(work.number)


class Writer(WorkerRole):
    """Writes a row a message."""

    instances = 0
    concurrency = 2

    @handle
    async def note(self, note: Note, ctx: Context) -> None:
        """Count it in the database."""
        ctx.write("insert into noted (number) values ($1)", note.number)
        _hit(note.number)


class Hold(Message):
    """One that is held until a test lets it go."""

    number: int


class Holder(WorkerRole):
    """Writes a row a message, once there is a file of the name of HITS and `.go` behind it."""

    instances = 0
    concurrency = 1

    @handle
    async def hold(self, hold: Hold, ctx: Context) -> None:
        """Say that it began, and count it in the database in the end."""
        _hit(hold.number)
        while not Path(os.environ["HITS"] + ".go").exists():  # noqa: ASYNC110 - made by another process
            await asyncio.sleep(0.02)
        ctx.write("insert into noted (number) values ($1)", hold.number)


def _hit(number: int) -> None:
    file = os.open(os.environ["HITS"], os.O_WRONLY | os.O_APPEND)
    os.write(file, f"{os.getpid()} {number}\n".encode())  # one write: others write too
    os.close(file)


database.IDLE_CONNECTION_S = float(os.environ.get("IDLE_S", database.IDLE_CONNECTION_S))

app = App("many", roles=[W, Writer, Holder])
