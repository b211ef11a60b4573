"""Wake-ups for what was sent in a transaction that is somebody else's.

Nobody tells when it commits, and a NOTIFY in it would make all such commits wait for one
another. So whoever waits is woken a few times, soon and then less often; transactions that
take longer are found by polling.

Source: RELIABILITY H27.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.bell import Bell

PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


class Reminder:
    """Rings again and again for a while.

    Args:
        bell: Of this process.
    """

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._topics: set[str] = set()
        self._something = asyncio.Event()

    def remind(self, topics: Iterable[str]) -> None:
        """Ring for these, from now on, for a while."""
        self._topics.update(topics)
        self._something.set()

    async def run(self) -> None:
        """Ring until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            for pause_s in PAUSES_S:
                await asyncio.sleep(pause_s)
                self._bell.ring(self._topics)
                if self._something.is_set():
                    break
            else:
                self._topics.clear()
