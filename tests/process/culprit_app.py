"""Roles that do harm, each in its own way, beside one that does none.

Lines go to the file that HITS names: process id, role.
"""

from __future__ import annotations

import asyncio
import os
import time

from rolekit import App, Backoff, Client, Message, WorkerRole, handle

MIB = 1 << 20
EATEN_MB = 1500
"""More than any limit here; the test has failed if so much is there to be had."""


class Ping(Message):
    """Asks for a sign of life."""


class Eat(Message):
    """Takes memory, as much as there is."""


class Keep(Message):
    """Takes a bit of memory and never gives it back."""


class Block(Message):
    """Blocks a loop."""


class Good(WorkerRole):
    """Does what it should."""

    @handle
    async def ping(self, ping: Ping) -> None:
        """Answer."""
        _hit("Good")


class Hog(WorkerRole):
    """Eats."""

    instances = 0
    max_memory_mb = 150

    @handle(retry=Backoff(attempts=1))
    async def eat(self, eat: Eat) -> None:
        """Eat."""
        eaten = [bytearray(8 * MIB) for _ in range(EATEN_MB // 8)]
        _hit(f"ate {len(eaten)}")


class Leaky(WorkerRole):
    """Forgets to give back."""

    instances = 0
    max_memory_mb = 150

    async def on_start(self) -> None:
        """Keep a place for what is not needed any more."""
        self._kept: list[bytearray] = []

    @handle
    async def keep(self, keep: Keep) -> None:
        """Keep it."""
        self._kept.append(bytearray(b"x") * (60 * MIB))
        _hit("Leaky")


class Stuck(WorkerRole):
    """Blocks its loop, the first time."""

    instances = 0

    @handle
    async def block(self, block: Block) -> None:
        """Wait as nobody may in a loop, once."""
        file = os.environ["HITS"] + ".blocked"
        if not os.access(file, os.F_OK):
            os.close(os.open(file, os.O_CREAT))
            time.sleep(600)  # noqa: ASYNC251 - the blocked loop is the point
        _hit("Stuck")


class Slow(WorkerRole):
    """Is never ready."""

    instances = 0
    start_s = 1

    async def on_start(self) -> None:
        """Wait for what does not come."""
        await asyncio.Event().wait()


class Messy(WorkerRole):
    """Cannot clear up."""

    instances = 0

    async def on_stop(self) -> None:
        """Fail."""
        raise OSError("the disk is full")


class Hasty(WorkerRole):
    """Its own loop fails."""

    instances = 0

    async def run(self, client: Client) -> None:
        """Fail."""
        raise LookupError("no such mailbox")


class Unready(WorkerRole):
    """Cannot get ready."""

    instances = 0

    async def on_start(self) -> None:
        """Fail."""
        raise ConnectionError("nobody answers")


def _hit(what: str) -> None:
    file = os.open(os.environ["HITS"], os.O_WRONLY | os.O_APPEND)
    os.write(file, f"{os.getpid()} {what}\n".encode())  # one write: others write too
    os.close(file)


app = App("culprit", roles=[Good, Hog, Leaky, Stuck, Slow, Messy, Hasty, Unready])
