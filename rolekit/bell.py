"""Wake-ups: who waits for a topic hears at once when something came for it.

A hint and nothing more: whoever waits also polls. Topics are names of queues, and the
store's own. Within a process a ring is a call; to other processes it is carried by
whatever the wiring provides, many rings in one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

ALL = "*"
CARRY_EVERY_S = 0.02
"""Rings within this time leave the process as one. Source: RELIABILITY H27."""

Carry = Callable[[Iterable[str]], Awaitable[None]]


class Bell:
    """Rings for topics.

    Args:
        carry: Tells other processes; None when there are none.
    """

    def __init__(self, carry: Carry | None = None) -> None:
        self._carry = carry
        self._waiting: dict[str, set[Callable[[], None]]] = {}
        self._outgoing: set[str] = set()
        self._something = asyncio.Event()

    def on(self, topics: Iterable[str], call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` whenever one of these topics rings; returns what ends that."""
        names = list(topics)
        for topic in names:
            self._waiting.setdefault(topic, set()).add(call)

        def off() -> None:
            for topic in names:
                self._waiting.get(topic, set()).discard(call)

        return off

    def ring(self, topics: Iterable[str]) -> None:
        """Something came for these topics, through this process."""
        heard = set(topics)
        if not heard:
            return
        self.heard(heard)
        if self._carry is not None:
            self._outgoing |= heard
            self._something.set()

    def heard(self, topics: Iterable[str]) -> None:
        """Something came for these topics, through another process."""
        for topic in topics:
            groups = self._waiting.values() if topic == ALL else [self._waiting.get(topic, ())]
            for call in [call for group in groups for call in group]:
                call()

    async def run(self) -> None:
        """Carry rings to other processes, until cancelled."""
        if self._carry is None:
            return
        while True:
            await self._something.wait()
            self._something.clear()
            topics, self._outgoing = self._outgoing, set()
            # A ring that cannot be carried is made good by polling.
            with contextlib.suppress(Exception):
                await self._carry(topics)
            await asyncio.sleep(CARRY_EVERY_S)
