"""An instance gets no more memory than twice what its role may have: a hog harms itself only.

What wants more gets a MemoryError, so a handler that does fails like any other: its message
uses up an attempt, and in the end becomes a dead letter that names it.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

from rolekit.errors import ConfigError

HARD = 2
"""So many times its limit is what the system gives an instance; from the limit on it is
replaced by another, which takes it a moment."""
_MIB = 1 << 20
_ROOM_BYTES = 16 * _MIB


def bound_memory(role: str, most_mb: float | None) -> None:
    """Limit the memory of this process.

    Args:
        role: Its name, for the sentence.
        most_mb: Beyond that it is replaced; None: it has no limit.

    Raises:
        ConfigError: It has more already.

    Source: getrlimit(2), on RLIMIT_DATA: since Linux 4.7 it counts private writable mappings.
    """
    if most_mb is None:
        return
    most, has = int(HARD * most_mb * _MIB), _data_bytes()
    if has + _ROOM_BYTES > most:
        raise ConfigError(
            f"{role}.max_memory_mb is {most_mb:g}, but a fresh instance has "
            f"{has / HARD / _MIB:.0f} MB to begin with.",
            fix="Name at least twice that, or leave it out.",
        )
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _data_bytes() -> int:
    """Return what counts against the limit now; 0 where the system does not say."""
    with suppress(FileNotFoundError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0
