"""One delivery at its turn: read, run, alone if it is a suspect; a bug loses nothing.

Source: DESIGN "Failure".
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import CodecError, RolekitError
from rolekit.flow import failure
from rolekit.flow.batching import Bundle
from rolekit.flow.runtime import Arrival, Runtime
from rolekit.model.envelope import Head, Packet, decode_head, trial_of
from rolekit.model.retry import CRASHES, Park

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolekit.flow.batches import Batches
    from rolekit.flow.call import Handler
    from rolekit.flow.commit import Committer
    from rolekit.flow.pipeline import Pipeline
    from rolekit.transport.base import Delivery, Subscription

HAND_BACK_S = 1.0
"""A delivery that meets a bug is held so long, or it would come again at once, for ever."""

log = structlog.get_logger("rolekit.consume")


class Handling:
    """Has deliveries of a role's queues processed.

    Args:
        runtime: Of this process.
        handlers: Of the role, by queue.
        pipeline: Processes one.
        committer: For what never gets so far.
        batches: Handles those of handlers that take batches, if there are any.
    """

    def __init__(
        self,
        runtime: Runtime,
        handlers: Mapping[str, Handler],
        pipeline: Pipeline,
        committer: Committer,
        batches: Batches | None,
    ) -> None:
        self._runtime = runtime
        self._handlers = handlers
        self._pipeline = pipeline
        self._committer = committer
        self._batches = batches

    async def process(self, delivery: Delivery, subscribed: Subscription) -> None:
        """Process a delivery, or a bundle of them, of a subscription."""
        try:
            if isinstance(delivery, Bundle):
                await self._handle_together(delivery, subscribed)
            else:
                await self._handle(delivery, subscribed)
        except Exception:
            # Nothing but a bug comes here; the delivery must not be lost by it.
            log.exception("handing back after an unexpected error", message=delivery.packet.id)
            await asyncio.sleep(HAND_BACK_S)
            self._count("returned", delivery)
            subscribed.hand_back([delivery])

    async def _handle(self, delivery: Delivery, subscribed: Subscription) -> None:
        plan = self._handlers[delivery.packet.queue].plan
        try:
            head = decode_head(delivery.packet.head)
        except CodecError as error:
            # Nobody can be told: what says who waits is what cannot be read.
            unread = Arrival(delivery, subscribed, Head(), plan)
            await self._park(unread, str(error), error)
            return
        arrival = Arrival(delivery, subscribed, head, plan)
        if not delivery.is_suspect:
            await self._pipeline.process(arrival)
        elif delivery.crashed >= CRASHES:
            why = f"{delivery.crashed} instances died while they ran it alone"
            await self._park(arrival, why, None)
            await self._end_alone(arrival.packet)
        else:
            await self._process_alone(arrival)

    async def _handle_together(self, bundle: Bundle, subscribed: Subscription) -> None:
        if self._batches is not None:
            for delivery in await self._batches.process_all(bundle, subscribed):
                await self._handle(delivery, subscribed)

    async def _process_alone(self, arrival: Arrival) -> None:
        deaths = self._runtime.deaths
        try:
            if deaths is None:
                await arrival.subscription.run_alone(arrival.delivery)
            else:
                await deaths.begin_alone(*trial_of(arrival.packet))
        except RolekitError as error:
            log.info("not noted as running alone", error=str(error))
        try:
            if arrival.plan.batch and self._batches is not None:
                await self._batches.process([arrival], arrival.delivery)
            else:
                await self._pipeline.process(arrival, to_the_end=True)
        finally:
            await self._end_alone(arrival.packet)

    async def _end_alone(self, packet: Packet) -> None:
        """Forget deaths: this one is over, and one that is alike is to be tried afresh."""
        if self._runtime.deaths is not None:
            with suppress(RolekitError):
                await self._runtime.deaths.end_alone(*trial_of(packet))

    async def _park(self, arrival: Arrival, why: str, error: Exception | None) -> None:
        step = failure.parked(self._runtime, arrival, Park(why), error)
        commit = self._committer.submit
        step = await failure.record(self._runtime, arrival, step, error, commit)
        subscribed = arrival.subscription
        settle = subscribed.ack if step.claim is None else subscribed.release
        settle([arrival.delivery])
        self._count(step.outcome.name.lower(), arrival.delivery)

    def _count(self, outcome: str, delivery: Delivery) -> None:
        if self._runtime.meters is not None:
            some = delivery.deliveries if isinstance(delivery, Bundle) else [delivery]
            self._runtime.meters.came_to(outcome, (one.packet for one in some))
