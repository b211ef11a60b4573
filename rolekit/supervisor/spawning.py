"""Instances by spawn: a fresh interpreter each, for apps that cannot bear to be forked.

    zygote ──spawn──> python -m rolekit.supervisor.spawning TARGET ZYGOTE_PID SOCKETS

Each imports the app itself, so it starts slower and shares no memory with the others. What it
is told comes on standard input; its sockets are descriptors 3 and up.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import sys
import tempfile
from typing import TYPE_CHECKING, NoReturn

import msgspec

from rolekit.link import InstanceSpec
from rolekit.supervisor import linux, output

if TYPE_CHECKING:
    from collections.abc import Sequence

_STANDARD = 3  # descriptors: input, output, error
_ABOVE = 64
"""More than an instance inherits: what is moved there is in nobody's way."""


def spawn(target: str, spec: InstanceSpec, fds: Sequence[int], pipe: int) -> int:
    """Start an instance; return its process id.

    Args:
        target: "module:function" that runs it.
        spec: What it is told.
        fds: Its line, then sockets if any.
        pipe: Where it prints.

    Raises:
        OSError: The system does not start it.
    """
    told = _file()
    moved: list[int] = []
    try:
        os.write(told, msgspec.json.encode(spec))
        os.lseek(told, 0, os.SEEK_SET)
        moved += [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for fd in (told, pipe, pipe)]
        moved += [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for fd in fds]
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", __name__, target, str(os.getpid()), str(len(fds))],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate(moved)],
        )
    finally:
        for fd in (told, *moved):
            os.close(fd)


def _file() -> int:
    """Open a file that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("spec")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def main(target: str, zygote_pid: int, count: int) -> NoReturn:
    """Become the instance that standard input describes; returns never."""
    linux.die_with_parent(zygote_pid)
    output.install()
    output.send_to(os.dup(1))
    with os.fdopen(0, "rb") as told:
        spec = msgspec.json.decode(told.read(), type=InstanceSpec)
    os.open(os.devnull, os.O_RDONLY)  # the lowest that is free: standard input
    from rolekit.supervisor.zygote import become  # noqa: PLC0415 - which imports this module

    name, _, function = target.partition(":")
    run = getattr(importlib.import_module(name), function)
    become(spec, list(range(_STANDARD, _STANDARD + count)), run, zygote_pid)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
