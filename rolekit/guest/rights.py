"""Which user a keeper is, and how soon it runs: what limits of users stand on.

Like `keeper`, of which it is a part, it imports nothing of rolekit.

Source: setrlimit(2), on RLIMIT_NPROC; sched(7).
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextlib.contextmanager
def as_user(uid: int | None) -> Generator[None]:
    """Be a user inside the block: who may limit its processes, also where root may not."""
    if uid is None:
        yield
        return
    os.setresgid(uid, uid, 0)
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


def get_ahead() -> None:
    """Run before any guest, where only watching limits them: to outrun who forks."""
    with contextlib.suppress(OSError):  # it takes root; others have RLIMIT_NPROC, see keeper
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(1))


def count_of_user() -> int:
    """Count the threads of this user, which is what RLIMIT_NPROC counts."""
    count = 0
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == os.geteuid():
                count += len(os.listdir(f"/proc/{entry.name}/task"))  # noqa: PTH208 - a count
    return count
