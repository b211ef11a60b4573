"""Apps that `rolekit up` runs: each counts what it handled in a file, a byte a message."""

from __future__ import annotations

import asyncio
import os
import time

from rolekit import App, Message, WorkerRole, handle

HITS = "BENCH_HITS"
"""Environment variable that names the file."""

BUSY_S = 0.02
WAIT_S = 0.01


def hit() -> None:
    """Count one; appending a byte is one call, and no two processes mix theirs."""
    file = os.open(os.environ[HITS], os.O_WRONLY | os.O_APPEND)
    os.write(file, b".")
    os.close(file)


class Work(Message):
    """Takes a while."""

    number: int
    fill: str


class Busy(WorkerRole):
    """Computes: 20 ms of CPU a message."""

    concurrency = 2

    @handle
    async def compute(self, work: Work) -> None:
        """Use up CPU time, however long that takes by the wall clock."""
        until = time.process_time() + BUSY_S
        while time.process_time() < until:
            pass
        del work
        hit()


class Waiting(WorkerRole):
    """Waits for something outside: 10 ms a message, one at a time."""

    concurrency = 1

    @handle
    async def wait(self, work: Work) -> None:
        """Wait."""
        await asyncio.sleep(WAIT_S)
        del work
        hit()


class Idle(WorkerRole):
    """Says in the file which process a message came to, a line each."""

    concurrency = 2

    @handle
    async def nothing(self, work: Work) -> None:
        """Do nothing else."""
        del work
        file = os.open(os.environ[HITS], os.O_WRONLY | os.O_APPEND)
        os.write(file, f"{os.getpid()}\n".encode())
        os.close(file)


busy = App("busy", roles=[Busy])
waiting = App("waiting", roles=[Waiting])
idle = App("idle", roles=[Idle])
"""Apps of one role each."""
