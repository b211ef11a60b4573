"""Users of the embedded PostgreSQL in processes of their own, and what they see of it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import asyncpg

from rolekit.store import guardian
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODY = 65534

USE_UNTIL_EOF = """
import asyncio, sys
from pathlib import Path
from rolekit.store import embedded

from tests.patience import patient
from tests.patience import patient

async def use():
    async with embedded.server(Path(sys.argv[1])) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(use())
"""


class User:
    """A process that uses the server until it is told to leave, or killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, home: Path, uid: int | None = None) -> Self:
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", USE_UNTIL_EOF, str(home)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                preexec_fn=None if uid is None else lambda: become_user(uid),
            )
        )

    async def url(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def leave(self) -> None:
        await self._process.communicate(b"")

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate(b"")


def become_user(uid: int) -> None:
    """Change the account, but keep entering closed directories: Python may live in one."""
    guardian.become(guardian.Account(uid, uid, borrowed=1, passes=1), os.getppid())


async def until(is_so: Callable[[], bool], patience_s: float = 10) -> None:
    """Wait for something that only the file system tells."""
    async with asyncio.timeout(patient(patience_s)):
        while not is_so():  # noqa: ASYNC110 (no event comes from another process)
            await asyncio.sleep(0.02)


def is_stopped(home: Path) -> bool:
    """Tell whether the guardian has let go of its lock: it does so last."""
    lock = guardian.take_lock(home / "postgres/guardian.lock", fcntl.LOCK_EX)
    if lock is not None:
        os.close(lock)
    return lock is not None


async def until_stopped(home: Path, patience_s: float = 10) -> None:
    await until(lambda: is_stopped(home), patience_s)


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def owner_of(path: Path | str) -> int:
    return Path(path).stat().st_uid


async def ask(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def tell(url: str, query: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(query)
    finally:
        await connection.close()


async def until_it_answers(url: str, patience_s: float) -> None:
    async with asyncio.timeout(patient(patience_s)):
        while True:
            try:
                await ask(url, "select 1")
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.05)
            else:
                return


def postmaster(home: Path) -> int:
    lines = (home / "postgres/data/postmaster.pid").read_text().splitlines()
    return int(lines[0])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
