"""What a program that runs once is told and asked: input, output, and its end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rolekit.guest.kept import Ended
    from rolekit.guest.pipes import Pipes

FLUSH_S = 1.0


async def run_through(
    pipes: Pipes, stdin: bytes, end: asyncio.Future[Ended]
) -> tuple[Ended, bytes]:
    """Write its input and read its output while it runs; return how it ended, and that.

    What it wrote to standard error has a second to arrive after its end.
    """
    writing = asyncio.create_task(_feed(pipes, stdin))
    try:
        stdout = await pipes.stdout.read_to_end()
        ended = await asyncio.shield(end)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pipes.stderr.wait_closed(), FLUSH_S)
    finally:
        writing.cancel()
    return ended, stdout


async def _feed(pipes: Pipes, stdin: bytes) -> None:
    if stdin:
        await pipes.stdin.write(stdin)
    pipes.stdin.close()
