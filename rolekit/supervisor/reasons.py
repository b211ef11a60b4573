"""What was done with roles lately, and why: a few sentences each, for `rolekit ps --why`."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT = 20


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done with a role.

    Attributes:
        at: Seconds since 1970.
        what: A sentence without full stop: what was done, and why.
        times: How often in a row; `at` is the last time.
    """

    at: float
    what: str
    times: int = 1


class Reasons:
    """Keeps the latest reasons of each role.

    Args:
        clock: Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._of: dict[str, deque[Reason]] = {}

    def add(self, role: str, what: str) -> None:
        """Note what was just done with a role, or happened to it; repeats are counted."""
        kept = self._of.setdefault(role, deque(maxlen=_KEPT))
        times = 1 + (kept.pop().times if kept and kept[-1].what == what else 0)
        kept.append(Reason(at=self._clock(), what=what, times=times))

    def of(self, role: str) -> tuple[Reason, ...]:
        """Return those of a role, latest last."""
        return tuple(self._of.get(role, ()))
