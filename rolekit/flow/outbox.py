"""What leaves without a transaction of the queue: direct outputs, and committed outbox rows.

Both are published until the broker confirms. A repeat after an unknown confirm has the
same id and generation, so it competes for one inbox row at its next recorded step.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import PublishUnknown, RolekitError, Unavailable, Unroutable
from rolekit.model.envelope import Packet
from rolekit.transport.base import Delivery, Subscription, Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.store.base import Outgoing, Store

log = structlog.get_logger("rolekit.outbox")

BATCH = 256
AWAY_FIRST_S = 0.1
AWAY_MAX_S = 2.0
TOO_MANY = 10_000
"""Outbox rows unconfirmed in one process before it takes no more work."""


class Outbox:
    """Publishes committed outbox rows, then forgets them.

    Args:
        transport: Where to.
        store: Where the rows are.
    """

    def __init__(self, transport: Transport, store: Store) -> None:
        self._transport = transport
        self._store = store
        self._rows: deque[Outgoing] = deque()
        self._sent: list[int] = []
        self._something = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def leave(self, rows: Sequence[Outgoing]) -> None:
        """Take committed rows."""
        self._rows.extend(rows)
        self._something.set()
        self._is_empty.clear()
        if len(self._rows) > TOO_MANY:
            self._has_room.clear()

    async def room(self) -> None:
        """Wait while too much is unconfirmed."""
        await self._has_room.wait()

    async def empty(self) -> None:
        """Wait until everything has left."""
        await self._is_empty.wait()

    async def run(self) -> None:
        """Publish and forget until cancelled."""
        wait_s = AWAY_FIRST_S
        while True:
            await self._something.wait()
            batch = [self._rows[i] for i in range(min(BATCH, len(self._rows)))]
            try:
                await self._publish(batch)
                await self._forget()
                wait_s = AWAY_FIRST_S
            except RolekitError as error:
                log.warning(
                    "outbox waits for the broker", rows=len(self._rows), error=str(error)
                )
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, AWAY_MAX_S)
                continue
            if not self._rows:
                self._something.clear()
                self._is_empty.set()
            if len(self._rows) < TOO_MANY // 2:
                self._has_room.set()

    async def _publish(self, batch: list[Outgoing]) -> None:
        try:
            await self._transport.publish([row.packet for row in batch])
        except Unroutable:
            for row in batch:
                await self._publish_one(row.packet)
        for _ in batch:
            self._sent.append(self._rows.popleft().n)

    async def _publish_one(self, packet: Packet) -> None:
        """Publish alone; an answer whose asker is gone is dropped, as DESIGN 4.10 says."""
        try:
            await self._transport.publish([packet])
        except Unroutable as error:
            if not packet.queue.startswith("~reply."):
                raise Unavailable(str(error)) from error

    async def _forget(self) -> None:
        if self._sent:
            await self._store.forget(self._sent)
            self._sent = []


_Pair = tuple[Delivery, Packet]


class Forwarder:
    """Forwards the outputs of direct steps, those of one moment together."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._waiting: dict[
            int, tuple[Subscription, list[_Pair], list[asyncio.Future[None]]]
        ] = {}
        self._something = asyncio.Event()

    def forward(
        self, subscription: Subscription, delivery: Delivery, packet: Packet
    ) -> asyncio.Future[None]:
        """Publish a packet, then ack the delivery it came from."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        _, pairs, futures = self._waiting.setdefault(id(subscription), (subscription, [], []))
        pairs.append((delivery, packet))
        futures.append(done)
        self._something.set()
        return done

    async def run(self) -> None:
        """Forward until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            taken, self._waiting = self._waiting, {}
            for subscription, pairs, futures in taken.values():
                await self._forward(subscription, pairs)
                for done in futures:
                    if not done.done():
                        done.set_result(None)

    async def _forward(self, subscription: Subscription, pairs: Sequence[_Pair]) -> None:
        wait_s = AWAY_FIRST_S
        while True:
            try:
                await self._transport.forward(subscription, pairs)
            except Unroutable as error:
                kept = [pair for pair in pairs if not pair[1].queue.startswith("~reply.")]
                subscription.ack([pair[0] for pair in pairs if pair not in kept])
                if len(kept) == len(pairs):
                    log.exception("no queue for an output; trying again", error=str(error))
                    await asyncio.sleep(AWAY_MAX_S)
                pairs = kept
            except (PublishUnknown, Unavailable) as error:
                log.warning(
                    "not confirmed; publishing again", count=len(pairs), error=str(error)
                )
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, AWAY_MAX_S)
            else:
                return
            if not pairs:
                return
