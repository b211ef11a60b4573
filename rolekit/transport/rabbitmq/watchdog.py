"""Looks whether what is consumed comes, and begins anew where it does not.

A broker may drop a consumer, or lose an ack, without a word that arrives, and neither side
notices. So each round compares what the broker says of a queue with what is believed here:

    messages wait, nobody consumes it, and this process believes it does -> begin anew
    messages wait, fewer are in hand than may be, none came for two rounds  -> begin anew
    it is not there                                 -> begin anew, which makes it again

What is delivered and not acked AMQP does not tell. But a broker that delivers nothing,
although there are places free and messages wait, counts more as delivered than there are.
And what is in hand here may be in nobody's hands: a delivery that no object of this process
is any more cannot be acked by anybody, and has its place for ever:

    in hand, the same for six rounds, and nobody holds it -> begin anew, which hands it back

A consumer that got something since the last round lives, so the broker is not asked. A queue
that was just begun, paused or connected to anew is left for the next round, and so is one
where somebody else may have the messages. So is one with neither messages nor consumers: a
quorum queue that is too busy to answer within 250 ms is said to have none, and beginning anew
would keep it busy.

Source: PITFALLS T1, T8; RELIABILITY H25; RabbitMQ 3.10, `rabbit_quorum_queue:stat/2`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import RolekitError
from rolekit.transport.rabbitmq.address import AWAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rolekit.transport.rabbitmq.consumer import QueueConsumer
    from rolekit.transport.rabbitmq.counting import Counts
    from rolekit.transport.rabbitmq.transport import RabbitTransport

log = structlog.get_logger("rolekit.rabbitmq")

EVERY_S = 10.0
ROUNDS = 2
"""Rounds without a delivery, while messages wait: the first may be a coincidence."""
STUCK_ROUNDS = 6
"""Rounds in which nothing comes or is settled, while something is in hand. Then it is looked
for, which takes some 30 ms in a process with 200,000 objects: seldom enough."""


@dataclass(slots=True)
class _Seen:
    """A consumer as it was in the last round.

    Attributes:
        life: Of its channel and consumer: another one has not been waited for yet.
        delivered: How many messages it had got by then.
        in_hand: How many of them were not settled.
        silent: For how many rounds it has got none while some waited.
        stuck: For how many rounds the same were in hand.
    """

    life: int
    delivered: int
    in_hand: int
    silent: int = 0
    stuck: int = 0


class Watchdog:
    """Watches all consumers of a transport.

    Args:
        transport: Has the connection.
        consumers: Says whom to watch, each round anew.
        every_s: Seconds between rounds, give or take a fifth.

    Attributes:
        healed: How many consumers it let begin anew.
    """

    def __init__(
        self,
        transport: RabbitTransport,
        consumers: Callable[[], Iterable[QueueConsumer]],
        every_s: float = EVERY_S,
    ) -> None:
        self.healed = 0
        self._transport = transport
        self._consumers = consumers
        self._every_s = every_s
        self._seen: dict[QueueConsumer, _Seen] = {}
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch; does nothing when that has begun."""
        if self._running is None:
            # Owned by stop(), which ends it.
            self._running = asyncio.create_task(self._run(), name="watch consumers")

    async def stop(self) -> None:
        """Watch no more. Safe to call twice, and before start."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            try:
                await self.look()
            except (*AWAY, RolekitError) as error:
                self._seen.clear()  # a lost connection brings consumers back by itself
                log.debug("cannot look after consumers now", error=str(error))

    async def look(self) -> None:
        """Make one round.

        Raises:
            Unavailable: There is no connection.
        """
        watched = [one for one in self._consumers() if one.is_consuming]
        last, self._seen = self._seen, {}
        quiet: list[QueueConsumer] = []
        for one in watched:
            before = last.get(one)
            self._seen[one] = _Seen(one.life, one.delivered, one.in_hand)
            if before is not None and (before.life, before.delivered) == (
                one.life,
                one.delivered,
            ):
                quiet.append(one)
        if not quiet:
            return
        session = await self._transport.consuming()
        counts = await self._transport.counting.count(session, {one.name for one in quiet})
        for one in quiet:
            seen = self._seen[one]
            if one.is_consuming and (one.life, one.delivered) == (seen.life, seen.delivered):
                self._judge(one, counts.get(one.name), last[one])

    def _judge(self, one: QueueConsumer, counts: Counts | None, last: _Seen) -> None:
        """Judge a consumer that got nothing since the last round."""
        seen = self._seen[one]
        if counts is None:
            self._heal(one, "the queue is gone")
        elif counts.messages and not counts.consumers:
            self._heal(one, "the broker has no consumer of this queue")
        elif counts.messages and one.in_hand < one.window:
            seen.silent = last.silent + 1
            if seen.silent >= ROUNDS:
                self._heal(
                    one,
                    f"{counts.messages:,} messages wait and none is delivered, with "
                    f"{one.in_hand} of {one.window} in hand",
                )
        elif one.in_hand and one.in_hand == last.in_hand:
            self._look_for_lost(one, seen, last.stuck + 1)

    def _look_for_lost(self, one: QueueConsumer, seen: _Seen, stuck: int) -> None:
        seen.stuck = stuck % STUCK_ROUNDS
        lost = one.count_lost() if stuck == STUCK_ROUNDS else 0
        if lost > 0:
            self._heal(one, f"{lost} of {one.in_hand} deliveries in hand are nobody's")

    def _heal(self, one: QueueConsumer, why: str) -> None:
        self.healed += 1
        del self._seen[one]
        log.warning("a consumer was dead without a word; beginning anew", queue=one.name,
                    reason=why, healed=self.healed)  # fmt: skip
        one.restart(f"watchdog: {why}")
