"""What the broker gave up by itself becomes dead letters like any other.

A broker counts deliveries and in the end puts a message into a queue of its own; nobody
would see it there, nothing could replay it, and its position would stay open for ever.

Source: DESIGN "Failure"; RELIABILITY H10.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import CodecError
from rolekit.flow import failure
from rolekit.flow.runtime import Arrival, Runtime
from rolekit.model.envelope import Head, decode_head, handler_of
from rolekit.model.plan import HandlerPlan
from rolekit.model.retry import Park
from rolekit.transport.base import DEAD_QUEUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.flow.commit import Committer
    from rolekit.transport.base import Delivery, Subscription

log = structlog.get_logger("rolekit.relay")

WINDOW = 50
AGAIN_S = 5.0
WHY = "the broker delivered it too often and gave it up: its instances died, or lost it"


class GivenUp:
    """Takes what the broker gave up, and records it.

    Args:
        runtime: Of this process.
        committer: Commits the dead letters.
    """

    def __init__(self, runtime: Runtime, committer: Committer) -> None:
        self._runtime = runtime
        self._committer = committer
        self._subscription: Subscription | None = None
        self._recording: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Record until cancelled."""
        transport = self._runtime.transport
        self._subscription = await transport.subscribe(
            [DEAD_QUEUE], window=WINDOW, sink=self._take
        )
        try:
            await asyncio.Event().wait()
        finally:
            for task in self._recording:
                task.cancel()
            await asyncio.shield(self._subscription.close())

    def _take(self, batch: Sequence[Delivery]) -> None:
        for delivery in batch:
            # Owned by run(), which ends it.
            task = asyncio.create_task(self._record(delivery))
            self._recording.add(task)
            task.add_done_callback(self._recording.discard)

    async def _record(self, delivery: Delivery) -> None:
        assert self._subscription is not None  # noqa: S101 - deliveries come from it
        try:
            head = decode_head(delivery.packet.head)
        except CodecError:
            head = Head()
        handler = handler_of(delivery.packet, head)
        plan = self._runtime.plan.handlers.get(handler)
        if plan is None:
            plan = HandlerPlan(name=handler, role="", method="")
        arrival = Arrival(delivery, self._subscription, head, plan)
        try:
            step = failure.parked(self._runtime, arrival, Park(WHY), None)
            await failure.record(self._runtime, arrival, step, None, self._committer.submit)
        except Exception:
            log.exception("what the broker gave up is not recorded yet; trying again")
            await asyncio.sleep(AGAIN_S)
            self._subscription.hand_back([delivery])
        else:
            log.warning("dead letter", message=delivery.packet.id, handler=handler, reason=WHY)
            self._subscription.ack([delivery])
