"""What only Linux offers, and the supervisor stands on: prctl, and counting threads."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from rolekit.errors import RolekitError

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_OPEN_FILES = 65_536


def require() -> None:
    """Refuse systems on which instances could outlive their supervisor.

    Raises:
        RolekitError: This is not Linux.
    """
    if sys.platform != "linux":
        raise RolekitError(
            f"`rolekit up` runs on Linux only; this is {sys.platform}.",
            fix="Use a container, or `rolekit run ROLE` for one role at a time.",
        )


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies; end it if that has happened.

    The signal follows the *thread* that forked this process, so fork from the main thread.

    Source: PR_SET_PDEATHSIG(2const).
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(0)


def outlive_parent() -> None:
    """Take back `die_with_parent`; the kernel only wakes this process if it was stopped."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that they are reaped."""
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


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us: two for each instance."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")
