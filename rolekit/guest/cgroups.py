"""Making the cgroup of a guest, where we may: version 2, or memory and pids of version 1."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from rolekit.guest.hosts import MIB

if TYPE_CHECKING:
    from rolekit.guest.limits import Limits

ROOT = Path("/sys/fs/cgroup")


def make(name: str, limits: Limits, root: Path = ROOT) -> list[str]:
    """Make a cgroup with the limits of one guest. This may block.

    Args:
        name: Of the new folders.
        limits: What goes into it.
        root: Where cgroups are mounted.

    Returns:
        Its folders: one, or two, or none where it cannot be made.
    """
    memory, pids = str(limits.memory_mb * MIB), str(limits.pids)
    both = {"memory.max": memory, "memory.swap.max": "0", "pids.max": pids}
    of_memory = {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory}
    if unified := _made(_unified(root), name, both):
        return unified
    made = _made(_version1(root, "memory"), name, of_memory)
    made += _made(_version1(root, "pids"), name, {"pids.max": pids})
    if len(made) == 1:  # one of the two is not enough
        Path(made.pop()).rmdir()
    return made


def _unified(root: Path) -> list[Path]:
    """Name where a group of version 2 may be made: beneath ours, or beside it.

    Only where the controllers are given on already: to turn them on, a group must be empty.
    """
    ours = root / _own("0::").lstrip("/")
    found: list[Path] = []
    for parent in (ours, ours.parent):
        with contextlib.suppress(OSError):
            given = (parent / "cgroup.subtree_control").read_text().split()
            if {"memory", "pids"} <= set(given) and parent.is_relative_to(root):
                found.append(parent)
    return found


def _version1(root: Path, controller: str) -> list[Path]:
    mounted = root / controller
    return [mounted / _own(f":{controller}:").lstrip("/"), mounted]


def _own(mark: str) -> str:
    """Return the path behind a mark in /proc/self/cgroup; / where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if mark in line:
                return line.partition(mark)[2]
    return "/"


def _made(parents: list[Path], name: str, values: dict[str, str]) -> list[str]:
    for parent in parents:
        folder = parent / name
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            for key, value in values.items():
                if (folder / key).exists():  # swap is counted only where it is compiled in
                    (folder / key).write_text(value)
        except OSError:
            folder.rmdir()
        else:
            return [str(folder)]
    return []
