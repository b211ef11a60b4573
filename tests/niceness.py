"""How nice processes and sessions are, and whether one that was made nicer can go back."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from pathlib import Path

NICEST = 19
_THERE_AND_BACK = (
    f"import os; os.setpriority(0, 0, {NICEST}); os.setpriority(0, 0, int(input()))"
)


def mine() -> int:
    """How nice this process is."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def of_session(leader: int) -> str:
    """What the kernel says of a session; empty: it does not group by them, or this is none."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{leader}/autogroup").read_text().rpartition(" ")[2].strip()
    return ""


@functools.cache
def counts_by_session() -> bool:
    """Whether the kernel says of a session of its own how nice it is.

    A process that is in none, as the first of a virtual machine and what it started may be,
    is told nothing of itself, so a new one is asked.
    """
    asked = subprocess.run(
        ["/bin/cat", "/proc/self/autogroup"],
        check=False,
        start_new_session=True,
        capture_output=True,
    )
    return bool(asked.stdout)


def may_come_back() -> bool:
    """Whether a process that made itself nicer can take that back here."""
    tried = subprocess.run(
        [sys.executable, "-c", _THERE_AND_BACK],
        check=False,
        input=str(mine()).encode(),
        capture_output=True,
    )
    return tried.returncode == 0


def said(pid: int) -> str:
    """How nice a process is, and its session."""
    return f"{os.getpriority(os.PRIO_PROCESS, pid)} {of_session(pid) or 'none'}"
