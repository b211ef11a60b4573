"""Whom a keeper has below it: the processes of its guest, and their cgroup.

Like `keeper`, of which it is a part, it imports nothing of rolekit.

Source: proc_pid_task(5), on `children`; cgroups(7).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

REMOVE_S = 3.0


class Groups:
    """The cgroup of a keeper's guests: one folder (version 2), or two (version 1), or none."""

    def __init__(self, folders: list[str]) -> None:
        self.folders = [Path(folder) for folder in folders]
        self._kills = 0
        self._counts: list[int] = []
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError):
                    flags = os.O_RDONLY | os.O_CLOEXEC
                    self._counts.append(os.open(folder / name, flags))

    def join(self, *pids: int) -> None:
        """Move processes into it; without any, this one."""
        for folder in self.folders:
            for pid in pids or (0,):
                (folder / "cgroup.procs").write_text(str(pid))

    def pids(self) -> Iterator[int]:
        """Yield who is in it."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                yield from map(int, (folder / "cgroup.procs").read_text().split())

    def has_killed(self) -> bool:
        """Whether the kernel has killed for memory since this was asked last."""
        before = self._kills
        for fd in self._counts:
            with contextlib.suppress(OSError):  # another has removed it
                for line in os.pread(fd, 4096, 0).decode().splitlines():
                    if line.startswith("oom_kill "):
                        self._kills = int(line.split()[1])
        return self._kills > before

    def close(self) -> None:
        """Let go of it. Safe to call twice."""
        for fd in self._counts:
            os.close(fd)
        self._counts.clear()

    def remove(self) -> None:
        """Remove its folders; nobody is in them any more."""
        self.close()
        until_s = time.monotonic() + REMOVE_S
        for folder in self.folders:
            while folder.exists() and time.monotonic() < until_s:
                try:
                    folder.rmdir()
                except OSError:  # busy for a moment with who has just been killed
                    time.sleep(0.005)


def ended() -> Iterator[tuple[int, int]]:
    """Reap; yield who has ended, and how."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def descendants() -> Iterator[int]:
    """Yield every process that descends from this one."""
    parents = [str(os.getpid())]
    while parents:
        parent = parents.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):  # noqa: PTH208 - names only
                text = Path(f"/proc/{parent}/task/{thread}/children").read_text()
                children = text.split()
                yield from map(int, children)
                parents += children


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process, which may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
