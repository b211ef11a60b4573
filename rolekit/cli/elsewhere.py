"""Where supervisors listen on this host, for who looked in the wrong home."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = Path("/proc/net/unix")
_LISTENS = 0x10000  # __SO_ACCEPTCON: linux/net.h
_FLAGS, _PATH = 3, 7


def control_sockets() -> list[Path]:
    """Return the paths of control sockets that are listened at, of any home."""
    # A lock lies beside ours: nobody else's socket is to be asked.
    return [path for path in sorted(set(_listening())) if path.with_suffix(".lock").exists()]


def _listening() -> Iterator[Path]:
    with suppress(OSError), TABLE.open(encoding="utf-8", errors="replace") as table:
        for line in table:
            fields = line.rstrip("\n").split(maxsplit=_PATH)
            if (
                len(fields) > _PATH
                and fields[_PATH].startswith("/")
                and fields[_PATH].endswith(".sock")
                and int(fields[_FLAGS], 16) & _LISTENS
            ):
                yield Path(fields[_PATH])
