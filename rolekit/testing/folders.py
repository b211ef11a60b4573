"""Folders for the data of servers that live for a test run: in memory, where there is room.

What such a server writes is gone with it, so a disk only costs: the schema of one app is 90
files, whose creation took 150 ms of CPU on the disk of a small virtual machine, and 40 in
memory (November 2026). A process that is killed loses nothing there either.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made as mkdtemp makes them
ROOM_BYTES = 4 << 30
"""With less free memory than this, the disk is used."""
_YOUNG_S = 60.0
"""One that is younger may be about to be locked."""


class Folder:
    """A new folder, ours alone; those that killed processes have left in memory are removed.

    Args:
        prefix: Its name begins so.
        otherwise: Where it is made if memory has no room; None: where temporary files are.

    Attributes:
        path: Where it is.
    """

    def __init__(self, prefix: str, otherwise: Path | None = None) -> None:
        _sweep(prefix)
        where = MEMORY if _free_bytes() >= ROOM_BYTES else otherwise
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
        # The kernel drops the lock of whoever dies.
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove it, with all that is in it. Safe to call twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _free_bytes() -> int:
    """Return how much can be written to memory; 0 where that is no place for files."""
    try:
        found = os.statvfs(MEMORY)
        said = re.search(r"MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return 0
    if said is None or not os.access(MEMORY, os.W_OK):
        return 0
    return min(found.f_bavail * found.f_frsize, int(said[1]) * 1024)


def _sweep(prefix: str) -> None:
    """Remove what nobody holds: memory is dearer than disk."""
    for left in MEMORY.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # in use, another user's, or gone
            fd = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - os.fstat(fd).st_ctime > _YOUNG_S:
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(fd)
