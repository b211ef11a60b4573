"""A lease that is kept by renewing it in time, whatever it is kept in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

log = structlog.get_logger("rolekit.host")

LEASE_S = 12.0
RENEW_S = 3.0
AWAY_S = 0.5


class Lease:
    """Renews a lease again and again, and says when it is lost.

    It counts as lost one renewal before it runs out: whoever works under it has stopped
    taking by then, when others begin to take over.

    Args:
        renew: Makes it hold for `LEASE_S` from now; may raise anything.
        after: Done each time it was renewed; bounded in time by itself.
    """

    def __init__(
        self, renew: Callable[[], Awaitable[None]], after: Callable[[], Awaitable[None]]
    ) -> None:
        self._renew = renew
        self._after = after
        self._changes: asyncio.Queue[bool] = asyncio.Queue()

    async def keep(self) -> None:
        """Renew until cancelled; it was taken just now."""
        loop = asyncio.get_running_loop()
        is_held, lost_at = True, loop.time() + LEASE_S - RENEW_S
        self._changes.put_nowait(is_held)
        while True:
            began = loop.time()
            try:
                # A server that says nothing must not keep the loss from being told in time.
                left_s = max(lost_at - began, AWAY_S) if is_held else RENEW_S * 2
                async with asyncio.timeout(min(left_s, RENEW_S * 2)):
                    await self._renew()
                lost_at, is_renewed = began + LEASE_S - RENEW_S, True
            except Exception as error:  # noqa: BLE001 - a loop that ended would never be missed
                log.warning("cannot renew the lease of this host", error=str(error))
                is_renewed = False
            holds = loop.time() < lost_at
            if holds != is_held:
                is_held = holds
                self._changes.put_nowait(is_held)
            if is_renewed:
                await self._after()
            await asyncio.sleep(RENEW_S if is_renewed else AWAY_S)

    async def changes(self) -> AsyncIterator[bool]:
        """Say whether it is held, now and at each change."""
        while True:
            yield await self._changes.get()
