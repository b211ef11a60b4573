"""Has what is for other apps handed over, as soon as something is there, and now and then."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import RolekitError
from rolekit.transport.base import outside_queue

if TYPE_CHECKING:
    from rolekit.flow.runtime import Runtime

log = structlog.get_logger("rolekit.relay")

LOOK_EVERY_S = 1.0


async def hand_over(runtime: Runtime) -> None:
    """Hand over until cancelled; at once done where nothing goes to other apps."""
    queues = [outside_queue(app) for app in dict.fromkeys(runtime.plan.outside.values())]
    if not queues:
        return
    something = asyncio.Event()
    off = runtime.bell.on(queues, something.set)
    try:
        while True:
            something.clear()
            try:
                await runtime.transport.hand_over()
            except RolekitError as error:
                log.warning("cannot hand over to other apps now", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await something.wait()
    finally:
        off()
