"""Where a part stands in its sequence: paths, and the frames a message carries them in.

A path is a tuple of indexes from 0, outermost split first: `(3,)` is the fourth part,
`(3, 1)` the second part it was split into. Paths compare lexicographically, and a prefix
sorts before what it contains; Postgres orders `int[]` in the same way.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Index = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 2)]
"""Four bytes, where the highest value means "not known"."""

Path = tuple[Index, ...]

MAX_DEPTH = 32
"""Splits within splits, at most: a bound on what a loop of handlers can build."""


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One sequence that a message is a part of.

    Attributes:
        sequence: Id of the sequence.
        gather: Name of the gather that receives it.
        path: Where this message stands in it.
    """

    sequence: str
    gather: str
    path: Path

    def at(self, path: Path) -> Frame:
        """Stand somewhere else in the same sequence."""
        return Frame(self.sequence, self.gather, path)

    def child(self, index: int) -> Frame:
        """Stand one split deeper."""
        return self.at((*self.path, index))


Frames = tuple[Frame, ...]
"""Innermost last: a gather closes the last one, and its outputs stand at the one before."""


def pack(path: Path) -> bytes:
    """Encode a path so that bytes sort as paths do: four bytes an index, big end first."""
    return b"".join([index.to_bytes(4, "big") for index in path])


def unpack(data: bytes) -> Path:
    """Decode a packed path."""
    return tuple(int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4))


ROW = 2**31
"""Positions of a stream are counted in rows of so many, since an index has four bytes."""


def rows_begun(first: int, end: int) -> range:
    """Name the rows that begin with one of these positions, but for the first of all.

    Args:
        first: The first position.
        end: Behind the last one.
    """
    return range(max(1, -(-first // ROW)), -(-end // ROW))


def stream_path(number: int) -> Path:
    """Return where the message of this number stands in its stream."""
    return divmod(number, ROW)


def stream_number(path: Path) -> int:
    """Return the number of a message in its stream, or of the first one of a row."""
    return path[0] * ROW + (path[1] if len(path) > 1 else 0)
