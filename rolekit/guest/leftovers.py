"""Folders and cgroups of keepers that were killed: found by the lock that nobody holds.

A keeper clears up after itself. One that is killed cannot, and where its instance was killed
too, as by a supervisor that ends all below, nobody else does. The kernel has dropped its
lock then, so the next instance that starts guests on this machine can tell, and does it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import cast

PREFIX = "rolekit-guest-"
_LOCK = "lock"
_EMPTY_S = 3.0


def claim(folder: Path, groups: list[str]) -> int:
    """Lock a folder, and note the cgroup that goes with it. This may block.

    Returns:
        A descriptor: the folder is in use for as long as a copy of it is open.
    """
    new = folder / "lock.new"
    fd = os.open(new, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.write(fd, json.dumps(groups).encode())
    new.rename(folder / _LOCK)  # nobody looks at it before it is locked
    return fd


def sweep() -> None:
    """Remove what is left of keepers that were killed. This may block."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):  # in use, another user's, or gone
            fd = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                is_ours = os.fstat(fd).st_uid == os.geteuid()
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_ours:
                    remove(folder, cast("list[str]", json.loads(os.read(fd, 1 << 16))))
            finally:
                os.close(fd)


def remove(folder: Path, groups: list[str]) -> None:
    """Kill who is left in a cgroup, remove it, and the folder. This may block."""
    for group in groups:
        _empty(Path(group))
    shutil.rmtree(folder, ignore_errors=True)


def _empty(group: Path) -> None:
    until_s = time.monotonic() + _EMPTY_S
    while group.exists() and time.monotonic() < until_s:
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)
        try:
            group.rmdir()
        except OSError:  # busy for a moment with who has just been killed
            time.sleep(0.005)
