"""What an instance orders of a keeper, and what comes with the order."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from rolekit.guest import orders, starting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from rolekit.guest.hosts import Launch


def prefix(launch: Launch, files: list[str], env: Mapping[str, str]) -> list[str]:
    """Return what stands before the command: nothing, or a sandbox with its files in it."""
    if launch.filter is None:
        return []
    named = [
        part
        for number, name in enumerate(files, starting.FIRST_FILE_FD)
        for part in ("--file", str(number), f"{launch.env['HOME']}/{name}")
    ]
    home = launch.env["HOME"]
    made = [part for name in launch.folders for part in ("--dir", f"{home}/{name}")]
    told = [
        part
        for name, value in (launch.env | dict(env)).items()
        for part in ("--setenv", name, value)
    ]
    return [*launch.prefix, *made, *named, *told, "--"]


def order_of(launch: Launch) -> orders.Start:
    """Return what is the same for each guest."""
    return orders.Start(
        argv=[],
        env=launch.env,
        limits=launch.limits,
        pids=launch.pids,
        uid=launch.uid,
        has_scratch=launch.filter is None,
        is_reached=False,
        waits=False,
        folders=list(launch.folders),
        files=[],
        sizes=[],
        has_spawner=False,
    )


@contextlib.asynccontextmanager
async def held(launch: Launch, files: Mapping[str, bytes]) -> AsyncGenerator[list[int]]:
    """Have filter and files where a descriptor leads to them; without a sandbox, one to all."""
    wanted = [(name, [data]) for name, data in files.items()]
    if launch.filter is not None:
        wanted.insert(0, ("filter", [launch.filter]))
    elif files:
        wanted = [("files", [*files.values()])]
    held: list[int] = []
    try:
        if wanted:  # may be large, so not on the loop
            await asyncio.to_thread(_hold, held, wanted)
        yield held
    finally:
        for fd in held:
            os.close(fd)


def _hold(held: list[int], wanted: list[tuple[str, list[bytes]]]) -> None:
    """Put bytes where a descriptor leads to them."""
    for name, data in wanted:
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
        held.append(fd)
        with os.fdopen(os.dup(fd), "wb") as file:
            file.writelines(data)
        os.lseek(fd, 0, os.SEEK_SET)
