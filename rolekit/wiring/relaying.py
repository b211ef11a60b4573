"""The relay of a host, for as long as it lives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.flow.given_up import GivenUp
from rolekit.flow.handing_over import hand_over
from rolekit.flow.inbound import inbound
from rolekit.flow.relay import Relay
from rolekit.flow.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.roles.services import Services

GRACE_S = 1.0
RELAY = "(relay)"
"""Name of the built-in role; no class can be called so."""


async def _run_all(relay: Relay, services: Services) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(relay.run())
        tasks.create_task(_take_in(services))
        tasks.create_task(hand_over(services.runtime))
        if services.runtime.transport.features.gives_up:
            tasks.create_task(GivenUp(services.runtime, services.committer).run())


async def _take_in(services: Services) -> None:
    """Hand on what other apps send, until cancelled."""
    consumer = inbound(services.runtime, services.committer, services.forwarder)
    await consumer.start()
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.shield(consumer.stop(GRACE_S))


async def run_relay(
    services: Services, ready: Callable[[], None], stopped: asyncio.Event
) -> None:
    """Be the relay of this host until told to stop."""
    runtime, outbox = services.runtime, services.outbox
    leave = None if outbox is None else outbox.leave
    timers = Timers(runtime.plan, runtime.store, runtime.clock)
    relay = Relay(runtime.store, runtime.transport, runtime.bell, runtime.clock, leave, timers)
    running = asyncio.create_task(_run_all(relay, services))
    waiting = asyncio.create_task(stopped.wait())
    ready()
    try:
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        running.cancel()
        waiting.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
