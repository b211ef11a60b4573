"""Which traces a busy process remembers, so that what it remembers reaches back far enough.

Only so much is remembered. Where more happens than that in the time in which a trace can be
asked for, remembering all of it would leave nothing of any: each attempt would be overwritten
before somebody asked. So a share of all traces is remembered, by a hash of their root, which
every process and every host works out alike. A smaller share is part of each larger one.
"""

from __future__ import annotations

from zlib import crc32

REACH_S = 3.0
"""What is slow is noticed after a second, and asked for within two more."""
LOOK_S = 1.0
_LARGEST_MASK = (1 << 16) - 1


class Share:
    """Says which of all traces are remembered, by how many come.

    Args:
        most: So many entries are remembered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._mask = 0
        self._taken = 0
        self._since_s = 0.0

    def leaves_out(self, root: str) -> bool:
        """Whether nothing of a trace is remembered now.

        Args:
            root: Id of the message that it began with.
        """
        return self._mask != 0 and crc32(root.encode()) & self._mask != 0

    def took(self, now_s: float) -> None:
        """Note that something is remembered.

        Args:
            now_s: The time, seconds since 1970.
        """
        self._taken += 1
        if self._taken >= self._most or now_s - self._since_s > LOOK_S:
            self._judge(now_s - self._since_s)
            self._taken, self._since_s = 0, now_s

    def _judge(self, in_s: float) -> None:
        """Choose the largest share of which enough is still there after `REACH_S`."""
        come = self._taken * (self._mask + 1) * REACH_S / max(in_s, 1e-3)
        mask = self._mask
        while come / (mask + 1) > self._most and mask < _LARGEST_MASK:
            mask = mask * 2 + 1
        while mask and come / (mask + 1) * 4 < self._most:  # not to and fro at a bound
            mask //= 2
        self._mask = mask
