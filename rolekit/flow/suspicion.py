"""Telling what may have killed an instance from what merely came again.

A broker flags both alike: what an instance held that died, and what was handed back or lost
its connection. Where the transport cannot tell, the supervisor notes deaths in the store.
The broker may be faster than that, so whoever asks waits a moment first. What comes again in
numbers comes a window at a time, a few milliseconds apart: one wait counts for all of it.

Source: DESIGN "Failure".
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.model.envelope import trial_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.store.base import Deaths
    from rolekit.transport.base import Delivery

NOTED_S = 0.15
"""A supervisor has noted a death by then."""
CALM_S = 0.5
"""So long after a wait that found no death, what comes again is asked about without another.
A death just then may cost a second instance, which is noted; it is never blamed on others."""


class Suspicions:
    """Asks about deaths on behalf of one consumer.

    Args:
        deaths: What is known of them; None where the transport tells.
    """

    def __init__(self, deaths: Deaths | None) -> None:
        self._deaths = deaths
        self._calm_until_s = 0.0

    async def flag(self, deliveries: Sequence[Delivery], came_s: float) -> None:
        """Flag those that may have killed an instance, where the transport cannot tell.

        Args:
            deliveries: Came again.
            came_s: When, by the clock of the loop.

        Raises:
            RolekitError: The store is away; nothing was flagged.
        """
        if self._deaths is None:
            return
        if came_s >= self._calm_until_s:
            await asyncio.sleep(came_s + NOTED_S - asyncio.get_running_loop().time())
            self._calm_until_s = came_s + CALM_S
        keys = [trial_of(one.packet) for one in deliveries]
        found = await self._deaths.suspicions(keys)
        if found:
            self._calm_until_s = 0.0
        for delivery, key in zip(deliveries, keys, strict=True):
            crashed = found.get(key)
            if crashed is not None:
                delivery.is_suspect, delivery.crashed = True, crashed
