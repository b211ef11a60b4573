"""What the processes of a fleet use: processor time, and memory of their own."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rolekit.supervisor.status import FleetStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12  # fields of /proc/PID/stat behind the name, from 0: proc_pid_stat(5)
_KIB = 1024
_RESIDENT, _SHARED = 1, 2  # fields of /proc/PID/statm, in pages: proc_pid_statm(5)
_PAGE_BYTES = resource.getpagesize()


class Usage(msgspec.Struct, frozen=True):
    """Of one process, without those that it started.

    Attributes:
        cpu_s: Seconds of a core since its start.
        memory_bytes: That it shares with nobody (USS): what its end would give back.
    """

    pid: int
    cpu_s: float
    memory_bytes: int


class FleetUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet, and what it uses.

    Attributes:
        at_s: When that was so; only differences mean something.
        supervisor: What looks after it uses; None: it cannot be read here.
        processes: Of instances; one that just ended is left out.
    """

    at_s: float
    status: FleetStatus
    supervisor: Usage | None
    processes: tuple[Usage, ...]


def used_by(status: FleetStatus) -> FleetUsage:
    """Read what a fleet uses; takes 0.2 ms a process or so, so call it in a thread."""
    pids = [place.pid for role in status.roles for place in role.places if place.pid]
    return FleetUsage(
        at_s=time.monotonic(),
        status=status,
        supervisor=next(iter(_read([status.pid])), None),
        processes=tuple(_read(pids)),
    )


def own_mb(pid: int) -> float:
    """Read how much memory of a process no file backs, MB; 0 when it is gone.

    What it shares with its zygote counts, unlike in `Usage`: telling that apart takes ten
    times as long.
    """
    with suppress(OSError, ValueError, IndexError):
        fields = (Path("/proc") / str(pid) / "statm").read_text().split()
        return (int(fields[_RESIDENT]) - int(fields[_SHARED])) * _PAGE_BYTES / _KIB**2
    return 0.0


def _read(pids: Iterable[int]) -> list[Usage]:
    found: list[Usage] = []
    for pid in pids:
        folder = Path("/proc") / str(pid)
        with suppress(OSError, ValueError, IndexError):
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            cpu_s = (int(stat[_USER]) + int(stat[_SYSTEM])) * _TICK_S
            memory = sum(
                int(line.split()[1])
                for line in (folder / "smaps_rollup").read_text().splitlines()
                if line.startswith("Private_")
            )
            found.append(Usage(pid, cpu_s, memory * _KIB))
    return found
