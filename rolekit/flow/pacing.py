"""How many deliveries an instance holds of each queue: what it gets through in a moment."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolekit.model.pace import grown, shrunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACE_S = 0.05
"""How often an instance that has work looks whether to hold more of it, if that was not
certain before."""
SHRINK_S = 1.0
"""How often it looks whether to hold less of it."""
LEAST_S = 1e-6
"""A clock may not have moved on since work came."""


@dataclass(slots=True, eq=False)
class _Pace:
    """One queue: its window, and what was handled since a time and in the longer while."""

    window: int
    since_s: float = 0.0
    handled: int = 0
    lately: int = 0
    has_grown: bool = False

    def begin(self, now_s: float) -> None:
        """Count anew from now on."""
        self.lately += self.handled
        self.handled = 0
        self.since_s = now_s


class Pacing:
    """Counts what is handled, and says how many deliveries to hold.

    It grows as soon as a window was got through in less than a moment, and shrinks after a
    while, so that one slow commit changes nothing.

    Args:
        queues: Names; of others it says nothing.
        least: Handlers running at once.
        resize: Told the window of a queue, and whether it is smaller than before.
    """

    def __init__(
        self, queues: Iterable[str], least: int, resize: Callable[[str, int, bool], None]
    ) -> None:
        self._paces = {queue: _Pace(least) for queue in queues}
        self._least = least
        self._resize = resize
        self._shrunk_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def handled(self, queue: str) -> None:
        """Note that a delivery was handled."""
        pace = self._paces.get(queue)
        if pace is not None:
            pace.handled += 1
            if pace.handled == pace.window and self._timer is not None:
                # What the timer would find later is certain now, if it is.
                self._grow(queue, pace, asyncio.get_running_loop().time())

    def look_soon(self) -> None:
        """Look in a moment, since there is work."""
        if self._timer is None and not self._is_closed:
            loop = asyncio.get_running_loop()
            now_s = loop.time()
            for pace in self._paces.values():
                pace.begin(now_s)
            self._timer = loop.call_later(PACE_S, self._look)

    def close(self) -> None:
        """Say no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time()
        passed_s = now_s - self._shrunk_at_s
        is_while = passed_s > SHRINK_S
        for queue, pace in self._paces.items():
            self._grow(queue, pace, now_s)
            pace.begin(now_s)
            if is_while:
                if not pace.has_grown:
                    self._shrink(queue, pace, passed_s)
                pace.lately, pace.has_grown = 0, False
        if is_while:
            self._shrunk_at_s = now_s

    def _grow(self, queue: str, pace: _Pace, now_s: float) -> None:
        """Hold more of a queue, if what was handled so far says so."""
        passed_s = max(now_s - pace.since_s, LEAST_S)
        wanted = grown(pace.window, self._least, pace.handled, passed_s)
        if wanted != pace.window:
            pace.begin(now_s)
            pace.window, pace.has_grown = wanted, True
            self._resize(queue, wanted, False)  # noqa: FBT003 - as it is called

    def _shrink(self, queue: str, pace: _Pace, passed_s: float) -> None:
        wanted = shrunk(pace.window, self._least, pace.lately, passed_s)
        if wanted != pace.window:
            pace.window = wanted
            self._resize(queue, wanted, True)  # noqa: FBT003 - likewise
