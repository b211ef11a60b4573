"""How many instances start at a time: more only get in each other's way.

A thousand that connect to a broker at once overflow the queue in which its system keeps
those that it has not accepted yet; they try again after one, three, seven seconds, and all
of them are late. A few at a time take what the CPUs give.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.supervisor import linux

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_S = 1.0
"""One that takes longer to be ready is waiting for something: others go on meanwhile."""


class Starts:
    """Turns at starting, first come, first served.

    Args:
        at_once: So many start at a time; None: ten for each CPU, at least 16.
        longest_s: A turn is over after so many seconds.
    """

    def __init__(self, at_once: int | None = None, longest_s: float = LONGEST_S) -> None:
        count = at_once or max(16, 10 * linux.cpus())
        self._free = asyncio.Semaphore(count)
        self._longest_s = longest_s

    async def turn(self) -> Callable[[], None]:
        """Wait for a turn; return what ends it, which may be called more than once."""
        await self._free.acquire()
        timer: asyncio.TimerHandle | None = None

        def over() -> None:
            nonlocal timer
            if timer is not None:
                timer.cancel()
                timer = None
                self._free.release()

        timer = asyncio.get_running_loop().call_later(self._longest_s, over)
        return over
