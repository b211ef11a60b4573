"""What leaves without a transaction of the queue: direct outputs, and committed outbox rows.

Both are published until the broker confirms. A repeat after an unknown confirm has the
same id and generation, so it competes for one inbox row at its next recorded step.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import CodecError, ConfigError, QueueFull, RolekitError, Unroutable
from rolekit.flow.in_order import InOrder, is_dropped
from rolekit.flow.submitted import Submitted
from rolekit.model.envelope import Packet, is_behind
from rolekit.transport.base import Delivery, Subscription, Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.flow.tracing import Tracing
    from rolekit.observe.meters import FlowMeters
    from rolekit.store.base import Outgoing, Store

log = structlog.get_logger("rolekit.outbox")

BATCH = 1000
"""Packets published together, half of what a broker is given unconfirmed: with less, each
few hundred would wait for the answer to those before."""
AWAY_FIRST_S = 0.1
AWAY_MAX_S = 2.0
LOOK_EVERY_S = 2.0
FORGET_EVERY_S = 0.05
TOO_MANY = 10_000
"""Packets unconfirmed in one process before it takes no more work."""


class Outbox:
    """Publishes committed outbox rows, then forgets them.

    A row is known from the moment its packets are handed over, or found, until the store
    forgot it. Rows of this process that it does not know are looked for while there may be
    any: when the answer of a commit is lost, its repeat tells of none; and a row of which a
    packet had no queue comes again whole.

    Args:
        transport: Where to.
        store: Where the rows are.
        tracing: Is told what left; None: nobody is.
    """

    def __init__(
        self, transport: Transport, store: Store, tracing: Tracing | None = None
    ) -> None:
        self.tracing = tracing
        self.meters: FlowMeters | None = None
        self._transport = transport
        self._store = store
        self._waiting: deque[Outgoing] = deque()
        self._left: dict[int, int] = {}
        self._set_aside: set[int] = set()
        self._aside = 0
        self._seeks = False
        self._has_reason = asyncio.Event()
        store.on_doubt(self._has_reason.set)
        self._sent: list[int] = []
        self._in_order = InOrder(transport, self._gone_in_order)
        self._something = asyncio.Event()
        self._has_sent = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def leave(self, rows: Sequence[Outgoing]) -> None:
        """Take packets of committed rows; those of rows that are known are passed over."""
        left = self._left
        new: dict[int, int] = {}
        for row in rows:
            if row.n in new:
                new[row.n] += 1
            elif row.n not in left:
                new[row.n] = 1
            else:
                continue
            self._waiting.append(row)
            if is_behind(row.packet):
                self._set_in_order(new[row.n])
        if not new:
            return
        left.update(new)
        self._something.set()
        self._is_empty.clear()
        if self._unconfirmed > TOO_MANY:
            self._has_room.clear()

    def _set_in_order(self, count: int) -> None:
        """Take the last packets of what waits, a whole row, to those that leave in order."""
        self._in_order.leave([self._waiting.pop() for _ in range(count)][::-1])

    @property
    def _unconfirmed(self) -> int:
        return len(self._waiting) + self._aside + self._in_order.waiting

    @property
    def has_room(self) -> bool:
        """Whether not too much is unconfirmed."""
        return self._has_room.is_set()

    async def room(self) -> None:
        """Wait while too much is unconfirmed."""
        await self._has_room.wait()

    async def empty(self) -> None:
        """Wait until everything has left."""
        await self._is_empty.wait()

    async def run(self) -> None:
        """Publish and forget until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send())
            tasks.create_task(self._in_order.run())
            tasks.create_task(self._forget_sent())
            tasks.create_task(self._look_for_more())

    async def _send(self) -> None:
        wait_s = AWAY_FIRST_S
        while True:
            await self._something.wait()
            try:
                await self._publish(min(BATCH, len(self._waiting)))
                wait_s = AWAY_FIRST_S
            except RolekitError as error:
                log.warning(
                    "outbox waits for the broker",
                    packets=len(self._waiting),
                    error=str(error),
                )
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, AWAY_MAX_S)
                continue
            if not self._waiting:
                self._something.clear()
            self._note_room()

    async def _publish(self, count: int) -> None:
        if not count:
            return
        began_s = time.perf_counter()
        try:
            await self._transport.publish([self._waiting[i].packet for i in range(count)])
        except (Unroutable, QueueFull) as error:
            self._note_failed(error, time.perf_counter() - began_s)
            if error.which is None:
                for _ in range(count):
                    await self._publish_first()
            else:
                self._sort_out(count, error, error.which)
            return
        except (CodecError, ConfigError):
            for _ in range(count):
                await self._publish_first()
            return
        if self.meters is not None:
            self.meters.left(count, time.perf_counter() - began_s)
        if self.tracing is not None and self.tracing.leaving.awaits:
            self.tracing.leaving.left(self._waiting[i].packet for i in range(count))
        for _ in range(count):
            self._gone(self._waiting.popleft().n)

    def _note_failed(self, error: RolekitError, took_s: float) -> None:
        if self.meters is not None:
            self.meters.failed("send", error, took_s)

    def _sort_out(self, count: int, error: RolekitError, which: frozenset[int]) -> None:
        """Let what was stored be gone; try the rest again later, which holds up nothing."""
        log.warning("no room or queue for outputs; trying again", error=str(error))
        for at in range(count):
            row = self._waiting.popleft()
            if at not in which or is_dropped(row.packet, error):
                self._gone(row.n)
            else:
                self._aside += 1
                asyncio.get_running_loop().call_later(AWAY_MAX_S, self._come_back, row)

    def _come_back(self, row: Outgoing) -> None:
        self._aside -= 1
        self._waiting.append(row)
        self._something.set()

    async def _publish_first(self) -> None:
        """Publish one packet; set its row aside, for the look-out, if its queue is not there.

        An answer whose asker is gone is dropped, as DESIGN 4.10 says.
        """
        row = self._waiting[0]
        try:
            await self._transport.publish([row.packet])
        except (Unroutable, CodecError, ConfigError) as error:
            if not is_dropped(row.packet, error):
                log.warning("an output cannot be sent; trying again", error=str(error))
                self._set_aside.add(row.n)
                self._seeks = True
                self._has_reason.set()
        self._waiting.popleft()
        self._gone(row.n)

    def _note_room(self) -> None:
        if self._unconfirmed < TOO_MANY // 2:
            self._has_room.set()

    def _gone_in_order(self, n: int) -> None:
        self._gone(n)
        self._note_room()

    def _gone(self, n: int) -> None:
        """Note that one packet of a row was dealt with."""
        self._left[n] -= 1
        if self._left[n]:
            return
        if n in self._set_aside:
            self._set_aside.discard(n)
            del self._left[n]
            self._note_empty()
        else:
            self._sent.append(n)
            self._has_sent.set()

    async def _forget_sent(self) -> None:
        """Forget what was sent, all of a moment in one statement."""
        while True:
            await self._has_sent.wait()
            try:
                await self._forget()
            except RolekitError as error:
                log.info("not forgotten yet", rows=len(self._sent), error=str(error))
                await asyncio.sleep(AWAY_MAX_S)
                continue
            if not self._sent:
                self._has_sent.clear()
            self._note_empty()
            await asyncio.sleep(FORGET_EVERY_S)

    async def _forget(self) -> None:
        sent = list(self._sent)
        await self._store.forget(sent)
        for n in sent:
            del self._left[n]
        del self._sent[: len(sent)]

    def _note_empty(self) -> None:
        if not self._left:
            self._is_empty.set()

    async def _look_for_more(self) -> None:
        while True:
            await self._has_reason.wait()  # a thousand that do not write do not wake for this
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._seeks and not self._store.is_in_doubt:
                self._has_reason.clear()
                continue
            try:
                found = await self._store.unsent(sorted(self._left), BATCH)
            except RolekitError as error:
                # Doubt ends by the clock, which is no answer: only a look that succeeds is.
                self._seeks = True
                log.info("not looked for rows left behind", error=str(error))
            else:
                self._seeks = bool(found or self._set_aside)
                self.leave(found)


_Pair = tuple[Delivery, Packet]
_Forward = tuple[_Pair, Submitted]


class Forwarder:
    """Forwards the outputs of direct steps, those of one moment together."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.meters: FlowMeters | None = None
        self._waiting: dict[int, tuple[Subscription, list[_Forward]]] = {}
        self._something = asyncio.Event()

    def forward(
        self, subscription: Subscription, delivery: Delivery, packet: Packet
    ) -> Submitted:
        """Publish a packet, then ack the delivery it came from; done when that is done."""
        done = Submitted()
        self._add(subscription, ((delivery, packet), done))
        return done

    def _add(self, subscription: Subscription, one: _Forward) -> None:
        self._waiting.setdefault(id(subscription), (subscription, []))[1].append(one)
        self._something.set()

    async def run(self) -> None:
        """Forward until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            taken, self._waiting = self._waiting, {}
            for subscription, forwards in taken.values():
                await self._forward(subscription, forwards)

    async def _forward(self, subscription: Subscription, forwards: list[_Forward]) -> None:
        wait_s = AWAY_FIRST_S
        while True:
            began_s = time.perf_counter()
            try:
                await self._transport.forward(subscription, [pair for pair, _ in forwards])
            except (Unroutable, QueueFull) as error:
                if error.which is None and len(forwards) > 1:
                    for one in forwards:
                        await self._forward(subscription, [one])
                else:
                    self._sort_out(subscription, forwards, error)
                return
            except RolekitError as error:
                log.warning(
                    "not confirmed; publishing again", count=len(forwards), error=str(error)
                )
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, AWAY_MAX_S)
            else:
                if self.meters is not None:
                    self.meters.left(len(forwards), time.perf_counter() - began_s)
                for _, done in forwards:
                    done.set_result(True)
                return

    def _sort_out(
        self,
        subscription: Subscription,
        forwards: list[_Forward],
        error: Unroutable | QueueFull,
    ) -> None:
        """Ack what was stored; try the rest again later, which holds up nothing."""
        log.warning("no room or queue for outputs; trying again", error=str(error))
        loop = asyncio.get_running_loop()
        for at, one in enumerate(forwards):
            (delivery, packet), done = one
            is_stored = error.which is not None and at not in error.which
            if is_stored or is_dropped(packet, error):
                subscription.ack([delivery])
                done.set_result(True)
            else:
                loop.call_later(AWAY_MAX_S, self._add, subscription, one)
