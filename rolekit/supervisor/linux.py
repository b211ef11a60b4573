"""What only Linux offers, and the supervisor stands on; and what stands in for it elsewhere.

Elsewhere there are no pidfds, so the zygote signals its children for the supervisor; no death
signal, so a thread looks whether its parent is still there; nobody adopts orphans, so what an
instance left behind in another session lives on; and nobody can say how many threads there
are, so instances are spawned instead of forked.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from rolekit.errors import RolekitError

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MADV_COLLAPSE = 25
_OPEN_FILES = 65_536
_LOOK_S = 0.5
_NICEST, _LEAST_NICE = 19, -20
AGAIN_S = 0.15
"""How nice sessions are may be set ten times a second, by all users together."""


def is_here() -> bool:
    """Whether this is Linux."""
    return sys.platform == "linux"


def require() -> None:
    """Refuse systems on which no process can be given open sockets.

    Raises:
        RolekitError: This is none like Unix.
    """
    if os.name != "posix":
        raise RolekitError(
            f"`rolekit up` runs on Linux, and on systems like it; this is {sys.platform}.",
            fix="Use a container, or `rolekit run ROLE` for one role at a time.",
        )


def without() -> str:
    """Say what is different where this is not Linux; empty: it is."""
    if is_here():
        return ""
    return (
        f"This is {sys.platform}, not Linux: instances are spawned, not forked, so each "
        "imports the app itself. What one leaves behind in another session is not ended with "
        "it; neither CPU nor memory is shown, and max_memory_mb limits nothing."
    )


def cpus() -> int:
    """Count the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pidfd(pid: int) -> int | None:
    """Open a descriptor that stays this child's; None: there are none here."""
    return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies; end it if that has happened.

    The signal follows the *thread* that forked this process, so fork from the main thread.
    Elsewhere a thread looks twice a second; one that is inside of C code that keeps the
    interpreter to itself ends after that.

    Source: PR_SET_PDEATHSIG(2const).
    """
    if is_here():
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        _end_without(parent_pid)
    if os.getppid() != parent_pid:
        os._exit(0)


def outlive_parent() -> None:
    """Take back `die_with_parent`; the kernel only wakes this process if it was stopped."""
    if is_here():
        _prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
    else:
        _may_outlive.set()


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that they are reaped."""
    if is_here():
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children() -> list[int]:
    """List the children of this process, adopted ones too; dead ones until they are reaped.

    None of these ids can become another process's before this one has waited for it.

    Source: proc_pid_task(5), on `children`; empty where the kernel was built without it.
    """
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", encoding="ascii") as file:  # noqa: PTH123 - see has_one_thread
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def threads() -> list[str]:
    """Name the threads of this process, the kernel's view, main thread first."""
    folder = Path("/proc/self/task")
    names: list[str] = []
    for task in sorted(os.listdir(folder), key=int):  # noqa: PTH208 - names only
        with suppress(FileNotFoundError, ProcessLookupError):  # it ends just now
            names.append((folder / task / "comm").read_text().strip())
    return names


def has_one_thread() -> bool:
    """Whether this process has no thread but its main one, in the kernel's view.

    Asked before each fork, so it touches as little memory as it can: what the zygote writes
    to is no longer shared with the instances that it forked before.
    """
    return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - see above


def use_large_pages() -> None:
    """Put what this process has written to memory so far into large pages, where that can be.

    A fork then notes one for each 2 MiB instead of one for each 4 KiB; what is written to
    later is still copied 4 KiB at a time. Does nothing before Linux 6.1.

    Source: madvise(2), on MADV_COLLAPSE; proc_pid_maps(5).
    """
    if not is_here():
        return
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, may, _, _, inode, *_ = line.split()
        if may == "rw-p" and inode == "0":  # no file's
            begin, end = (int(one, 16) for one in span.split("-"))
            _libc().madvise(
                ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_COLLAPSE
            )


def let_others_first(group: int, *, first: bool = True) -> bool:
    """Have the processes of a session get hardly any CPU while others want it.

    Where the kernel groups processes by session (`sched_autogroup_enabled`), how nice they
    are counts among themselves only, and the group has a number of its own, which everybody may
    set to and fro. Elsewhere, as in a cgroup of its own that a service or a container has, they
    are made as nice as can be, if this process could take that back: with CAP_SYS_NICE, or a
    limit that allows it (`LimitNICE=+0` in a unit of systemd, `ulimit -e 20`). What leaves the
    session meanwhile is not told when it is over.

    Args:
        group: Number of a session and its group, whose leader is a child of this process.
        first: False: others go first no longer. When they are gone, that is as well.

    Returns:
        False: not yet, try again in `AGAIN_S`.
    """
    as_others = os.getpriority(os.PRIO_PROCESS, 0)
    if _may_be_as_nice_again(as_others):
        with suppress(OSError):
            os.setpriority(os.PRIO_PGRP, group, _NICEST if first else as_others)
    return _session_be(group, _NICEST if first else 0)


def _session_be(leader: int, nice: int) -> bool:
    """Set how nice a session is to others; False: others did so just now."""
    try:
        Path(f"/proc/{leader}/autogroup").write_text(str(nice))
    except BlockingIOError:
        return False
    except OSError:  # no such kernel, or none such process any more
        return True
    return True


def _may_be_as_nice_again(as_now: int) -> bool:
    if not is_here():
        return False
    if resource.getrlimit(resource.RLIMIT_NICE)[0] >= _NICEST + 1 - as_now:
        return True
    try:  # whoever may go before others may come back
        os.setpriority(os.PRIO_PROCESS, 0, as_now - 1)
    except PermissionError:
        return False
    os.setpriority(os.PRIO_PROCESS, 0, as_now)
    return as_now > _LEAST_NICE  # where it could not go further, it has shown nothing


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us: two for each instance."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


_may_outlive = threading.Event()


@cache  # one thread, however often it is asked for
def _end_without(parent_pid: int) -> None:
    def look() -> None:
        while not _may_outlive.is_set():
            if os.getppid() != parent_pid:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(_LOOK_S)

    threading.Thread(target=look, name="parent", daemon=True).start()


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")
