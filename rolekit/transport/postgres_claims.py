"""Consuming queues in Postgres: a loop that claims, and a loop that acks.

Source: DESIGN 4.9.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from rolekit.errors import RolekitError
from rolekit.model.envelope import Packet
from rolekit.transport.base import Delivery

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.transport.base import Sink
    from rolekit.transport.postgres import PostgresTransport

log = structlog.get_logger("rolekit.transport")

PACE_S = 0.004
"""After a claim that left the window open, so long until the next one."""
POLL_FIRST_S = 0.05
POLL_MAX_S = 1.0
AFTER_ERROR_S = 0.5
CLOSE_S = 10.0
"""A claim under way is waited for so long before its channel closes without it."""


class PostgresSubscription:
    """One consumer: a loop that claims, and a loop that acks.

    `_in_hand` is written by the claim loop (adds) and by whoever settles (removes), all in
    one event loop; a tag is in it from its claim until it is settled.
    """

    def __init__(
        self,
        transport: PostgresTransport,
        queues: Sequence[str],
        window: int,
        sink: Sink,
        epoch: int | None = None,
    ) -> None:
        self._epoch = epoch
        self._transport = transport
        self._queues = list(queues)
        self._windows = dict.fromkeys(queues, window)
        self._sink = sink
        self._in_hand: dict[int, str] = {}
        self._count = dict.fromkeys(queues, 0)
        self._acks: list[int] = []
        self._is_paused = False
        self._is_closing = False
        self._may_hold_lost = False
        self._look = asyncio.Event()
        self._look.set()
        self._has_acks = asyncio.Event()
        self._acked = asyncio.Event()
        self._off = transport.bell.on(queues, self._look.set)
        # Owned by close(), which ends both.
        self._claiming = asyncio.create_task(self._claim_loop(), name=f"claim {queues}")
        self._acking = asyncio.create_task(self._ack_loop(), name=f"ack {queues}")

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Forget these for ever, soon."""
        self._acks.extend(delivery.tag for delivery in deliveries)
        self.release(deliveries)
        self._has_acks.set()

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Make room in the window."""
        for delivery in deliveries:
            queue = self._in_hand.pop(delivery.tag, None)
            if queue is not None:
                self._count[queue] -= 1
                # Claiming a quarter of the window at a time keeps statements few.
                window = self._windows[queue]
                if window - self._count[queue] >= window / 4:
                    self._look.set()

    def hand_back(self, deliveries: Iterable[Delivery]) -> None:
        """Give these back to their queues; the ack loop sends it."""
        tags = [delivery.tag for delivery in deliveries if delivery.tag in self._in_hand]
        self.release(deliveries)
        self._may_hold_lost = self._may_hold_lost or bool(tags)
        self._look.set()

    async def run_alone(self, delivery: Delivery) -> None:
        """Note that a suspect runs with nothing beside it."""
        await self._transport.execute("run_alone", delivery.tag, self._transport.owner)

    def widen(self, queue: str, window: int) -> None:
        """Change how many deliveries of a queue may be in hand."""
        self._windows[queue] = window
        self._look.set()

    def pause(self) -> None:
        """Take no more until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        """Take again."""
        self._is_paused = False
        self._look.set()

    async def flush(self) -> None:
        """Wait until the acks given so far have been sent."""
        while self._acks:
            self._acked.clear()
            await self._acked.wait()

    async def close(self) -> None:
        """Take no more; send the acks; hand back whatever is not settled."""
        if self._is_closing:
            return
        self._is_closing = True
        self._off()
        self._look.set()
        # A claim that is cancelled may have taken rows; its end is waited for instead.
        await asyncio.wait([self._claiming], timeout=CLOSE_S)
        self._claiming.cancel()
        self._acking.cancel()
        await asyncio.gather(self._claiming, self._acking, return_exceptions=True)
        self._transport.gone(self)
        try:
            if self._acks:
                await self._transport.execute("ack", self._acks)
            self._in_hand.clear()
            await self._give_back_lost()
        except RolekitError as error:
            log.warning(
                "could not hand back what was in hand; it comes again once this owner is gone",
                owner=self._transport.owner,
                error=str(error),
            )

    async def _claim_loop(self) -> None:
        poll_s = POLL_FIRST_S
        while not self._is_closing:
            self._look.clear()
            try:
                wanted, got = await self._claim()
            except Exception as error:  # noqa: BLE001 - a loop that ended would stop the queue
                _complain("cannot take messages; trying again", error)
                self._may_hold_lost = True
                await asyncio.sleep(AFTER_ERROR_S)
                self._look.set()
                continue
            if got and got == wanted:
                continue
            if got:
                # Rows that come one by one are cheaper taken together.
                await asyncio.sleep(PACE_S)
            poll_s = POLL_FIRST_S if got else min(poll_s * 2, POLL_MAX_S)
            try:
                async with asyncio.timeout(poll_s):
                    await self._look.wait()
                poll_s = POLL_FIRST_S
            except TimeoutError:
                pass

    async def _claim(self) -> tuple[int, int]:
        """Take what there is room for; return how much was wanted and got."""
        if self._may_hold_lost:
            # Before the statement: whoever hands back meanwhile sets it again.
            self._may_hold_lost = False
            await self._give_back_lost()
        room = {queue: self._windows[queue] - self._count[queue] for queue in self._queues}
        free = {queue: slots for queue, slots in room.items() if slots > 0}
        if self._is_paused or self._is_closing or not free:
            return 0, 0
        claim, own = ("claim", ()) if self._epoch is None else ("claim_own", (self._epoch,))
        found = await self._transport.fetch(
            claim, self._transport.owner, list(free), list(free.values()), *own
        )
        # A row that was freed while this instance still had it may be claimed by it again.
        taken = (row for row in found if row["n"] not in self._in_hand)
        deliveries = [delivery_of(row) for row in sorted(taken, key=lambda row: int(row["n"]))]
        for delivery in deliveries:
            self._in_hand[delivery.tag] = delivery.packet.queue
            self._count[delivery.packet.queue] += 1
        if deliveries:
            self._sink(deliveries)
        is_full = any(self._count[queue] >= self._windows[queue] for queue in free)
        return (len(deliveries) if is_full else -1), len(deliveries)

    def held(self) -> list[int]:
        """List the tags that are in hand, or whose ack has not been sent."""
        return [*self._in_hand, *self._acks]

    async def _give_back_lost(self) -> None:
        held = [*self.held(), *self._transport.held()]
        await self._transport.execute("lost_claims", self._transport.owner, self._queues, held)

    async def _ack_loop(self) -> None:
        while True:
            await self._has_acks.wait()
            self._has_acks.clear()
            tags = list(self._acks)
            try:
                await self._transport.execute("ack", tags)
            except Exception as error:  # noqa: BLE001 - a loop that ended would ack nothing
                _complain("cannot ack; trying again", error)
                await asyncio.sleep(AFTER_ERROR_S)
                self._has_acks.set()
                continue
            del self._acks[: len(tags)]
            self._acked.set()


def _complain(what: str, error: Exception) -> None:
    """Log an outage in a line, and anything else, which is a bug, with its traceback."""
    if isinstance(error, RolekitError):
        log.warning(what, error=str(error))
    else:
        log.error(what, exc_info=error)


def delivery_of(row: Any) -> Delivery:  # noqa: ANN401 - asyncpg's Record
    """Build the delivery of a row that was claimed, or might be."""
    packet = Packet(
        queue=row["queue"],
        id=row["id"].hex,
        generation=row["generation"],
        birth_ms=row["birth_ms"],
        head=row["head"],
        body=row["body"],
    )
    return Delivery(packet, row["n"], row["redelivered"], row["is_suspect"], row["crashed"])
