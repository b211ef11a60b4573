"""Free ports, and waiting until something listens on one."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


async def listens(port: int, process: asyncio.subprocess.Process, within_s: float) -> None:
    """Wait until a server listens.

    Raises:
        RuntimeError: It ended, or did not listen in time.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while loop.time() < until:
        if process.returncode is not None:
            raise RuntimeError(f"the server of port {port} ended with {process.returncode}")
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"nothing listened on port {port} within {within_s:g} s")


async def end(process: asyncio.subprocess.Process, within_s: float = 15) -> None:
    """Ask a process to end; kill it when it does not."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(within_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
