"""What has to go on through outages of the database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = structlog.get_logger("rolekit.supervisor")

REST_S = 1.0


async def keep_pumping(pump: Callable[[], Awaitable[None]], what: str) -> None:
    """Run a pump for ever: an outage must not end the fleet."""
    while True:
        try:
            await pump()
        except Exception as error:  # noqa: BLE001 - whatever the database raises: try again
            _log.warning("trying again in a second", what=what, error=str(error))
        await asyncio.sleep(REST_S)
