"""Whom a keeper has below it: the processes of its guest, and their cgroup.

Like `keeper`, of which it is a part, it imports nothing of rolekit.

Source: proc_pid_task(5), on `children`; cgroups(7); PR_SET_CHILD_SUBREAPER(2const).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PR_SET_CHILD_SUBREAPER = 36
CLEAR_S = 10.0
"""Who has not died of SIGKILL within this hangs in the kernel."""
REMOVE_S = 3.0


class Groups:
    """The cgroup of a keeper's guests: one folder (version 2), or two (version 1), or none."""

    def __init__(self, folders: list[str]) -> None:
        self.folders = [Path(folder) for folder in folders]
        self._kills = self._allowed = 0
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

    def allow(self, pids: int) -> None:
        """Let so many processes be in it."""
        for folder in self.folders if pids != self._allowed else ():
            most = folder / "pids.max"
            if most.exists():  # not in that of memory, in version 1
                most.write_text(str(pids))
        self._allowed = pids

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


def adopt_orphans() -> None:
    """Become the parent of whoever below this process loses its own."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


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


def descendants(of: int = 0) -> Iterator[int]:
    """Yield every process that descends from a process; 0: from this one."""
    parents = [str(of or os.getpid())]
    while parents:
        parent = parents.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):  # noqa: PTH208 - names only
                children = _read(f"/proc/{parent}/task/{thread}/children").decode().split()
                yield from map(int, children)
                parents += children


def _read(path: str) -> bytes:
    """Read it by three system calls, as it is read after each run."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


def kill_all(
    living: Callable[[], Iterable[int]],
    note: Callable[[int, int], None] = lambda _pid, _status: None,
) -> bool:
    """Kill processes, and reap, until there is none.

    Args:
        living: Says who there is.
        note: Told who was reaped, and how it ended.

    Returns:
        Whether none is left; False: some are, after `CLEAR_S`.
    """
    until_s = time.monotonic() + CLEAR_S
    while pids := _stopped(living):
        for pid in pids:
            send_signal(pid, signal.SIGKILL)
        gone = 0
        for pid, status in ended():
            gone += 1
            note(pid, status)
        if not gone:
            if time.monotonic() > until_s:
                return False
            time.sleep(0.001)
    return True


def _stopped(living: Callable[[], Iterable[int]]) -> set[int]:
    """Stop all of them before any is killed: who is stopped starts no others."""
    known: set[int] = set()
    while new := set(living()) - known:
        for pid in new:
            send_signal(pid, signal.SIGSTOP)
        known |= new
    return known


def kill_tree(pid: int, pidfd: int) -> None:
    """Kill a process, which may be gone or stopped, with all below; wait for none of them.

    Args:
        pid: Which.
        pidfd: Of the same: it is never another.
    """
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        for one in _stopped(lambda: descendants(pid)):
            send_signal(one, signal.SIGKILL)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process, which may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
