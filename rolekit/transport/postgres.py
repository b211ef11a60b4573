"""Queues in Postgres: a claim is an owner's number in the row, and a commit ends it.

No row is locked while user code runs, and no claim has a time-out: it ends when a commit
deletes the row, when it is handed back, or when its owner is gone, which the supervisor,
or any relay after the lease of a host, makes known by freeing its rows.

Source: DESIGN 4.9.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog

from rolekit.database import Database, load_queries
from rolekit.errors import FenceLost, Unroutable
from rolekit.grouped import Grouped
from rolekit.transport.base import Delivery, Depth, Features, Sink, Subscription
from rolekit.transport.postgres_claims import PostgresSubscription, delivery_of
from rolekit.transport.postgres_outside import Couriers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.bell import Bell
    from rolekit.model.envelope import Packet

log = structlog.get_logger("rolekit.transport")

SWEEP_EVERY_S = 60.0


class PostgresTransport:
    """Keeps the contract of `transport.base.Transport` on the app's own database.

    Args:
        database: Where the queues are.
        owner: Names this process in claims.
        bell: Rings when packets came.
        joins_store: Whether the store keeps its state in the same database.
    """

    def __init__(
        self, database: Database, *, owner: int, bell: Bell, joins_store: bool = True
    ) -> None:
        self.features = Features(joins_store=joins_store)
        self.owner = owner
        self.bell = bell
        self._db = database
        self.sql = load_queries("rolekit.transport.sql", "queue.sql", database.schema)
        self._names: set[str] = set()
        self._open: set[PostgresSubscription] = set()
        self._swept_at = 0.0
        self._couriers = Couriers(database)
        self._sends: Grouped[Sequence[Packet], None] = Grouped(
            self._store, _size_of, "store what is sent"
        )

    async def start(self) -> None:
        """Learn which queues there are."""
        await self._learn()

    async def connect_to_send(self) -> None:
        """Do nothing: what is sent takes a connection of the pool for as long as that lasts."""

    async def stop(self) -> None:
        """Close every subscription."""
        for subscription in list(self._open):
            await subscription.close()
        await self._sends.close()

    async def declare(self, queues: Iterable[str]) -> None:
        """Make these queues if they are not there."""
        missing = sorted(set(queues) - self._names)
        if missing:
            await self.execute("declare", missing)
            self._names.update(missing)

    async def publish(self, packets: Sequence[Packet]) -> None:
        """Store all of these, in this order, in one commit, perhaps with others' of now."""
        if packets:
            await self._check_names(packets)
            await self._sends.ask(packets)

    async def _store(self, groups: Sequence[Sequence[Packet]]) -> list[None]:
        packets = [packet for group in groups for packet in group]
        await self.execute("publish", *_columns(packets))
        self.bell.ring({packet.queue for packet in packets})
        return [None] * len(groups)

    async def forward(
        self, subscription: Subscription, pairs: Sequence[tuple[Delivery, Packet]]
    ) -> None:
        """Publish each packet and ack its delivery: here, in one commit."""
        packets = [packet for _, packet in pairs]
        await self._check_names(packets)
        tags = [delivery.tag for delivery, _ in pairs]
        await self.execute("forward", *_columns(packets), tags)
        subscription.release([delivery for delivery, _ in pairs])
        self.bell.ring({packet.queue for packet in packets})

    async def subscribe(
        self, queues: Sequence[str], *, window: int, sink: Sink, epoch: int | None = None
    ) -> PostgresSubscription:
        """Begin to consume."""
        if epoch is not None:
            await self._own(queues, epoch)
        subscription = PostgresSubscription(self, queues, window, sink, epoch)
        self._open.add(subscription)
        return subscription

    async def _own(self, queues: Sequence[str], epoch: int) -> None:
        """Have queues to oneself: earlier readers claim nothing more, and hold nothing."""
        async with self._db.transaction() as connection:
            mine = await connection.fetch(self.sql["own"], list(queues), epoch)
            if len(mine) < len(queues):
                raise FenceLost(f"Epoch {epoch} of {', '.join(queues)} is over.")
            await connection.execute(self.sql["free_claims"], list(queues))

    def held(self) -> list[int]:
        """List what the open subscriptions hold: several may share a queue."""
        return [tag for subscription in self._open for tag in subscription.held()]

    def gone(self, subscription: PostgresSubscription) -> None:
        """Forget a subscription that closed."""
        self._open.discard(subscription)

    async def depths(self, queues: Sequence[str]) -> dict[str, Depth]:
        """Say what stands in each of these queues."""
        found = await self.fetch("depths", list(queues))
        there = {
            row["queue"]: Depth(row["waiting"], row["in_hand"], max(row["oldest_s"], 0.0))
            for row in found
        }
        return {queue: there.get(queue, Depth()) for queue in queues}

    def delivered_age_s(self) -> float | None:
        """Say nothing: `depths` tells ages."""
        return None

    def blocked_s(self) -> float:
        """Say that messages are taken."""
        return 0.0

    async def recover(self) -> None:
        """Hand back what instances of hosts without a lease still hold.

        After an outage every lease has run out, so only a host that has renewed its own may
        judge others.
        """
        freed = await self.fetch("free_orphans", self.owner)
        if freed:
            log.info("handed back what hosts that are gone held", messages=len(freed))
            self.bell.ring({row["queue"] for row in freed})
        if time.monotonic() - self._swept_at > SWEEP_EVERY_S:
            self._swept_at = time.monotonic()
            await self.execute("drop_reply_queues", self.owner)

    async def hand_over(self) -> None:
        """Hand over what is for other apps, into their tables of the same database."""
        await self._couriers.hand_over(self._names)

    async def waiting(self, queues: Sequence[str], limit: int) -> dict[int, Packet]:
        """Read some of what nobody holds in these queues, by number, what came first first."""
        found = await self.fetch("waiting", list(queues), limit)
        return {row["n"]: delivery_of(row).packet for row in found}

    async def forget(self, numbers: Sequence[int]) -> None:
        """Forget packets for ever."""
        await self.execute("ack", list(numbers))

    async def fetch(self, name: str, *args: object) -> list[Any]:
        """Run one named query."""
        async with self._db.connection() as connection:
            return await connection.fetch(self.sql[name], *args)

    async def execute(self, name: str, *args: object) -> None:
        """Run one named statement."""
        async with self._db.connection() as connection:
            await connection.execute(self.sql[name], *args)

    async def _learn(self) -> None:
        self._names = {row["name"] for row in await self.fetch("queue_names")}

    async def _check_names(self, packets: Sequence[Packet]) -> None:
        wanted = {packet.queue for packet in packets}
        if wanted <= self._names:
            return
        await self._learn()
        if unknown := wanted - self._names:
            raise Unroutable(
                f"There is no queue {', '.join(sorted(unknown))}; nothing was stored.",
                fix="Start the role that takes it, or `rolekit migrate` after a rename.",
            )


def _size_of(packets: Sequence[Packet]) -> tuple[int, int]:
    return len(packets), sum(len(packet.body) + len(packet.head) for packet in packets)


def _columns(packets: Sequence[Packet]) -> tuple[list[Any], ...]:
    rows = [(p.queue, p.id, p.generation, p.birth_ms or 0, p.head, p.body) for p in packets]
    return tuple(list(column) for column in zip(*rows, strict=True))
