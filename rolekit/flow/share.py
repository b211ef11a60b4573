"""Which traces a busy process remembers, so that what it remembers reaches back far enough.

Only so much is remembered. Where more happens than that in the time in which a trace can be
asked for, remembering all of it would leave nothing of any: each attempt would be overwritten
before somebody asked. So a share of all traces is remembered: those whose root, 32 hexadecimal
digits as good as drawn, comes first in the alphabet, which every process and every host sees
alike. A smaller share is part of each larger one.
"""

from __future__ import annotations

REACH_S = 3.0
"""What is slow is noticed after a second, and asked for within two more."""
LOOK_S = 1.0
ALL = "~"
"""Comes after every root."""
_DIGITS = 4
_MOST_PARTS = 16**_DIGITS


class Share:
    """Says which of all traces are remembered, by how many come.

    Args:
        most: So many entries are remembered.

    Attributes:
        below: A trace is remembered if its root is less than this.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts = 1
        self._taken = 0
        self._since_s = 0.0
        self.below = ALL

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
        parts = self._parts
        come = self._taken * parts * REACH_S / max(in_s, 1e-3)
        while come / parts > self._most and parts < _MOST_PARTS:
            parts *= 2
        while parts > 1 and come / parts * 4 < self._most:  # not to and fro at a bound
            parts //= 2
        self._parts = parts
        self.below = ALL if parts == 1 else f"{_MOST_PARTS // parts:0{_DIGITS}x}"
