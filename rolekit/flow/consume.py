"""From the transport to the pipeline: bounded, fair, suspects alone.

Flagged deliveries ask the inbox first, all of one batch in one query. What an instance
that died had in hand runs one by one with nothing beside it, so that if it kills this
instance too, nothing else is blamed.

Source: DESIGN 4.6 and "Failure".
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import CodecError, RolekitError
from rolekit.flow import failure
from rolekit.flow.runtime import Arrival, Runtime
from rolekit.model.envelope import Head, decode_head
from rolekit.model.retry import CRASHES, Park

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping, Sequence

    from rolekit.flow.call import Handler
    from rolekit.flow.commit import Committer
    from rolekit.flow.pipeline import Pipeline
    from rolekit.transport.base import Delivery, Subscription

HAND_BACK_S = 1.0
"""A delivery that meets a bug is held so long, or it would come again at once, for ever."""

log = structlog.get_logger("rolekit.consume")


class Consumer:
    """Takes deliveries of a role's queues and has each processed.

    Args:
        runtime: Of this process.
        handlers: Of the role, by queue.
        pipeline: Processes one.
        committer: For what never gets so far.
        concurrency: Handlers running at once, and deliveries in hand per queue.
    """

    def __init__(
        self,
        runtime: Runtime,
        handlers: Mapping[str, Handler],
        pipeline: Pipeline,
        committer: Committer,
        concurrency: int,
    ) -> None:
        self._runtime = runtime
        self._handlers = handlers
        self._pipeline = pipeline
        self._committer = committer
        self._concurrency = concurrency
        self._lanes = Lanes(handlers, concurrency)
        self._running: set[asyncio.Task[None]] = set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._subscription: Subscription | None = None
        self.handled = 0

    @property
    def in_hand(self) -> int:
        """Deliveries taken and not settled."""
        return len(self._running) + self._lanes.waiting

    async def start(self) -> None:
        """Begin to take."""
        self._subscription = await self._runtime.transport.subscribe(
            list(self._handlers), window=self._concurrency, sink=self._take
        )

    def pause(self) -> None:
        """Take no more until `resume`."""
        if self._subscription is not None:
            self._subscription.pause()

    def resume(self) -> None:
        """Take again."""
        if self._subscription is not None:
            self._subscription.resume()

    async def idle(self) -> None:
        """Wait until nothing is in hand."""
        await self._is_idle.wait()

    async def stop(self, grace_s: float) -> None:
        """Take no more, finish what is in hand within the grace period, hand back the rest."""
        self.pause()
        self._lanes.close()
        try:
            async with asyncio.timeout(grace_s):
                await self.idle()
        except TimeoutError:
            log.warning("grace period is over; handing back", in_hand=self.in_hand)
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.close()

    def _take(self, batch: Sequence[Delivery]) -> None:
        flagged = [delivery for delivery in batch if delivery.redelivered]
        for delivery in batch:
            if not delivery.redelivered:
                self._lanes.add(delivery)
        if flagged:
            self._own(self._ask_inbox(flagged))
        self._start_some()

    def _start_some(self) -> None:
        """Start what there is room for."""
        while (delivery := self._lanes.next()) is not None:
            self._own(self._process(delivery))

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        self._is_idle.clear()
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start_some()
        if not self._running:
            self._is_idle.set()

    async def _ask_inbox(self, flagged: Sequence[Delivery]) -> None:
        """Ack what had its outcome; have the rest processed."""
        seen: set[tuple[str, int]] = set()
        keys = [(d.packet.id, d.packet.generation, d.packet.birth_ms or 0) for d in flagged]
        try:
            seen = await self._runtime.store.seen(keys)
        except Exception as error:  # noqa: BLE001 - only a hint is lost: the commit asks again
            log.info("inbox not asked", error=str(error))
        done = [d for d in flagged if (d.packet.id, d.packet.generation) in seen]
        self._subscribed.ack(done)
        for delivery in flagged:
            if delivery not in done:
                self._lanes.add(delivery)

    @property
    def _subscribed(self) -> Subscription:
        assert self._subscription is not None  # noqa: S101 - deliveries come from it
        return self._subscription

    async def _process(self, delivery: Delivery) -> None:
        try:
            await self._handle(delivery)
        except Exception:
            # Nothing but a bug comes here; the delivery must not be lost by it.
            log.exception("handing back after an unexpected error", message=delivery.packet.id)
            await asyncio.sleep(HAND_BACK_S)
            self._subscribed.hand_back([delivery])
        finally:
            self._lanes.done(delivery)
            self.handled += 1

    async def _handle(self, delivery: Delivery) -> None:
        plan = self._handlers[delivery.packet.queue].plan
        try:
            head = decode_head(delivery.packet.head)
        except CodecError as error:
            # Nobody can be told: what says who waits is what cannot be read.
            unread = Arrival(delivery, self._subscribed, Head(), plan)
            await self._park(unread, str(error), error)
            return
        arrival = Arrival(delivery, self._subscribed, head, plan)
        if not delivery.is_suspect:
            await self._pipeline.process(arrival)
        elif delivery.crashed >= CRASHES:
            why = f"{delivery.crashed} instances died while they ran it alone"
            await self._park(arrival, why, None)
        else:
            await self._process_alone(arrival)

    async def _process_alone(self, arrival: Arrival) -> None:
        try:
            await self._subscribed.run_alone(arrival.delivery)
        except RolekitError as error:
            log.info("not noted as running alone", error=str(error))
        await self._pipeline.process(arrival)

    async def _park(self, arrival: Arrival, why: str, error: Exception | None) -> None:
        step = failure.parked(self._runtime, arrival, Park(why), error)
        commit = self._committer.submit
        step = await failure.record(self._runtime, arrival, step, error, commit)
        settle = self._subscribed.ack if step.claim is None else self._subscribed.release
        settle([arrival.delivery])


class Lanes:
    """Which delivery runs next: so many beside one another, a suspect alone.

    Queues take turns, so a full one does not keep the others waiting. While a suspect
    waits nothing else begins, and it begins when nothing else runs.

    Args:
        queues: Names.
        limit: How many may run at once.
    """

    def __init__(self, queues: Iterable[str], limit: int) -> None:
        self._limit = limit
        self._fresh: dict[str, deque[Delivery]] = {name: deque() for name in queues}
        self._turn = deque(self._fresh)
        self._suspects: deque[Delivery] = deque()
        self._running = 0
        self._is_alone = False
        self._is_closed = False
        self.waiting = 0

    def add(self, delivery: Delivery) -> None:
        """Put a delivery in its lane."""
        self.waiting += 1
        if delivery.is_suspect:
            self._suspects.append(delivery)
        else:
            self._fresh[delivery.packet.queue].append(delivery)

    def close(self) -> None:
        """Let nothing begin any more; what waits is handed back by its subscription."""
        self._is_closed = True

    def next(self) -> Delivery | None:
        """Take the delivery that runs next; None while nothing may begin."""
        if self._is_closed or not self.waiting or self._running >= self._limit:
            return None
        if self._suspects:
            return None if self._running else self._begun(self._suspects)
        if self._is_alone:
            return None
        for _ in range(len(self._turn)):
            lane = self._fresh[self._turn[0]]
            self._turn.rotate(-1)
            if lane:
                return self._begun(lane)
        return None

    def done(self, delivery: Delivery) -> None:
        """Note that a delivery runs no more."""
        self._running -= 1
        if delivery.is_suspect:
            self._is_alone = False

    def _begun(self, lane: deque[Delivery]) -> Delivery:
        self.waiting -= 1
        self._running += 1
        delivery = lane.popleft()
        self._is_alone = delivery.is_suspect
        return delivery
