"""The launcher's side of what reaches into a container."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError
from rolekit.guest import reach

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@contextlib.asynccontextmanager
async def reached(pid: int, container: str) -> AsyncGenerator[socket.socket]:
    """Have a process where a container's is inside the block; give the way to it.

    Args:
        pid: Of the first process in the container, as its engine says.
        container: Its id.

    Raises:
        ConfigError: The container cannot be joined; says why.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(reach.__file__)),
                *(str(theirs.fileno()), str(pid), container),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                cwd="/",
            )
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            said = (await process.stdout.read()).decode()
            if said != reach.READY:
                raise ConfigError(
                    f"what listens in its container cannot be reached: {said or 'gone'}.",
                    fix="The launcher, which runs as the supervisor does, must be root on the "
                    "machine of the engine, or the user whose rootless Podman that is.",
                )
            yield ours
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
