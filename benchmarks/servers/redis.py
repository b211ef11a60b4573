"""A private Redis in memory, for Celery's chord; None where it is not installed."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.servers.ports import end, free_port, listens

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


@asynccontextmanager
async def redis(home: Path) -> AsyncGenerator[str | None]:
    """Run one inside the block, and give its URL."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(home),
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        await listens(port, process, 10)
        yield f"redis://127.0.0.1:{port}"
    finally:
        await end(process)
