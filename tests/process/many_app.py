"""A role of which there are many copies: each message says which process handled it.

Lines go to the file that HITS names: process id, number of the message. IDLE_S, if it is set,
is after how many seconds a connection to the database counts as idle.
"""

from __future__ import annotations

import os

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


def _hit(number: int) -> None:
    file = os.open(os.environ["HITS"], os.O_WRONLY | os.O_APPEND)
    os.write(file, f"{os.getpid()} {number}\n".encode())  # one write: others write too
    os.close(file)


database.IDLE_CONNECTION_S = float(os.environ.get("IDLE_S", database.IDLE_CONNECTION_S))

app = App("many", roles=[W, Writer])
