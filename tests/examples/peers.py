"""Programs of other frameworks, run as processes of their own beside an app."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


class Peer:
    """A program that runs until the test ends it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def said(self, text: str, within_s: float = 25) -> str:
        """Wait until it printed a line with this; return the line."""
        assert self._process.stdout is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(patient(within_s)):
                while line := (await self._process.stdout.readline()).decode():
                    self.lines.append(line)
                    if text in line:
                        return line
        raise AssertionError("".join(self.lines))


@asynccontextmanager
async def peer(folder: Path, *command: str, **env: str) -> AsyncGenerator[Peer]:
    """Run a module of Python in a folder; end it with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command,
        cwd=folder, env={**os.environ, **env, "PYTHONPATH": str(folder)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(patient(5)):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()


async def ran(folder: Path, code: str, **env: str) -> str:
    """Run some lines of Python in a folder, to their end; return what they printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code,
        cwd=folder, env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()
