"""How many deliveries an instance holds of each queue: what it gets through in a moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.model.pace import grown, shrunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACE_S = 0.05
SHRINK_S = 1.0
"""How often an instance that has work looks whether to hold more of it, and whether less."""


class Pacing:
    """Counts what is handled, and says how many deliveries to hold.

    It grows at once, and shrinks after a while, so that one slow commit changes nothing.

    Args:
        queues: Names; of others it says nothing.
        least: Handlers running at once.
        resize: Told the window of a queue, and whether it is smaller than before.
    """

    def __init__(
        self, queues: Iterable[str], least: int, resize: Callable[[str, int, bool], None]
    ) -> None:
        self._windows = dict.fromkeys(queues, least)
        self._least = least
        self._resize = resize
        self._handled = dict.fromkeys(self._windows, 0)
        self._lately = dict.fromkeys(self._windows, 0)
        self._looked_at_s = 0.0
        self._shrunk_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def handled(self, queue: str) -> None:
        """Note that a delivery was handled."""
        if queue in self._handled:
            self._handled[queue] += 1

    def look_soon(self) -> None:
        """Look in a moment, since there is work."""
        if self._timer is None and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._looked_at_s = loop.time()
            self._timer = loop.call_later(PACE_S, self._look)

    def close(self) -> None:
        """Say no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now_s = asyncio.get_running_loop().time()
        is_while = now_s - self._shrunk_at_s > SHRINK_S
        for queue, window in self._windows.items():
            handled, self._handled[queue] = self._handled[queue], 0
            self._lately[queue] += handled
            wanted = grown(window, self._least, handled, now_s - self._looked_at_s)
            if is_while:
                lately, self._lately[queue] = self._lately[queue], 0
                if wanted == window:
                    passed_s = now_s - self._shrunk_at_s
                    wanted = shrunk(window, self._least, lately, passed_s)
            if wanted != window:
                self._windows[queue] = wanted
                self._resize(queue, wanted, wanted < window)
        if is_while:
            self._shrunk_at_s = now_s
