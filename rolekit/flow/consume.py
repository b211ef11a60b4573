"""From the transport to the pipeline: bounded, fair, suspects alone.

Runners process deliveries, one after another, up to `concurrency` of them side by side. One
goes on with the next delivery without giving way as long as no handler waits for anything,
so a batch costs no task and no turn of the loop for each message; before it begins another
it wakes a second runner, which takes over at the moment the first has to wait.

Flagged deliveries ask the inbox first, all of one batch in one query. What an instance
that died had in hand runs one by one with nothing beside it, so that if it kills this
instance too, nothing else is blamed.

Source: DESIGN 4.6 and "Failure".
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING

import structlog

from rolekit.clock import ManualClock
from rolekit.flow.batching import Batching, Bundle
from rolekit.flow.gates import Tap, gates_for
from rolekit.flow.grace import Grace
from rolekit.flow.handling import Handling
from rolekit.flow.lanes import Lanes
from rolekit.flow.pacing import Pacing
from rolekit.flow.suspicion import Suspicions
from rolekit.observe.current import Hand, in_hand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.flow.batches import Batches
    from rolekit.flow.call import Handler
    from rolekit.flow.commit import Committer
    from rolekit.flow.pipeline import Pipeline
    from rolekit.flow.runtime import Runtime
    from rolekit.transport.base import Delivery, Subscription

FINISH_S = 1.0
"""So long a stop still begins what is in hand. It is a moment's work, as `grown` sees to it,
and what is handed back comes flagged to others, who have to ask what became of it."""
TURNS = 100
"""Deliveries that one runner processes at most before everything else gets a turn."""

log = structlog.get_logger("rolekit.consume")


class Consumer:
    """Takes deliveries of a role's queues and has each processed.

    Args:
        runtime: Of this process.
        handlers: Of the role, by queue.
        pipeline: Processes one.
        committer: For what never gets so far.
        concurrency: Handlers running at once, and deliveries in hand per queue.
        batches: Handles those of handlers that take batches, if there are any.
    """

    def __init__(
        self,
        runtime: Runtime,
        handlers: Mapping[str, Handler],
        pipeline: Pipeline,
        committer: Committer,
        concurrency: int,
        batches: Batches | None = None,
    ) -> None:
        self._runtime = runtime
        self._handlers = handlers
        self._pipeline = pipeline
        self._committer = committer
        self._concurrency = concurrency
        self._lanes = Lanes(handlers, concurrency)
        plans = [one.plan for one in handlers.values() if one.plan.batch]
        waits = not isinstance(runtime.clock, ManualClock)
        self._batching = Batching(plans, self._bundled, waits=waits) if plans else None
        self._handling = Handling(runtime, handlers, pipeline, committer, batches)
        self._suspicions = Suspicions(runtime.deaths)
        meters, consumed = runtime.meters, "messaging.client.consumed.messages"
        self._consumed = None if meters is None else meters.counter(consumed)
        self._open_to = self._lanes.add if self._batching is None else self._add_to_batch
        windows = dict.fromkeys(handlers, concurrency)
        if self._batching is not None:
            windows |= self._batching.windows(concurrency)
        tap = Tap(windows, self._let_in, self._take_out, meters)
        self.gates = gates_for(handlers.values(), tap, runtime, committer.submit)
        self._add = self.gates.offer if self.gates else self._open_to
        self._ended = self._note_end if self.gates.have_calls or plans else None
        self._runners: set[asyncio.Task[None]] = set()
        self._resting: list[asyncio.Future[None]] = []
        self._waking = 0
        self._is_waiting = False
        self._asking: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._grace = Grace()
        self._context = copy_context()
        self._subscription: Subscription | None = None
        self.handled = 0
        paced = [n for n, one in handlers.items() if not (one.plan.batch or n in self.gates)]
        self._pacing = Pacing(paced, concurrency, self._resize)
        pipeline.on_settled = self._rest
        pipeline.on_again = self._again
        if self.gates.have_calls:
            pipeline.on_failed, pipeline.before_call = self.gates.failed, self.gates.enter
        if batches is not None:
            batches.on_failed = self.gates.failed

    @property
    def in_hand(self) -> int:
        """Deliveries taken and not settled."""
        waiting = self._lanes.waiting + self.gates.waiting
        waiting += 0 if self._batching is None else self._batching.waiting
        return self._busy + self._pipeline.under_way + waiting

    async def start(self) -> None:
        """Begin to take."""
        self._subscription = await self._runtime.transport.subscribe(
            list(self._handlers), window=self._concurrency, sink=self._take
        )
        if self._batching is not None:
            for queue, window in self._batching.windows(self._concurrency).items():
                self._subscription.widen(queue, window)
        self.gates.begin(self._subscription)

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

    def hurry(self) -> None:
        """Do not wait any longer for what is in hand, once it stops."""
        self._grace.end()

    async def stop(self, grace_s: float) -> None:
        """Take no more, finish what is in hand within the grace period, hand back the rest."""
        self.pause()
        self.gates.close()
        if self._batching is not None:
            self._batching.close()
            self._rest()
        self._pacing.close()
        began_s = _now_s()
        with suppress(TimeoutError):
            async with self._grace.within(min(FINISH_S, grace_s)):
                await self.idle()
        self._lanes.close()
        self._rest()
        try:
            async with self._grace.within(began_s + grace_s - _now_s()):
                await self.idle()
        except TimeoutError:
            log.warning("grace period is over; handing back", in_hand=self.in_hand)
        tasks = [*self._runners, *self._asking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pipeline.stop()
        if self._subscription is not None:
            await self._subscription.close()

    def _take(self, batch: Sequence[Delivery]) -> None:
        if self._consumed is not None:
            self._consumed.value += len(batch)
        flagged = [delivery for delivery in batch if delivery.redelivered]
        for delivery in batch:
            if not delivery.redelivered:
                self._add(delivery)
        if flagged:
            self._busy += len(flagged)
            asking = asyncio.create_task(self._ask_inbox(flagged))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)
        self._is_idle.clear()
        self._wake()
        self._pacing.look_soon()

    def _add_to_batch(self, delivery: Delivery) -> None:
        """Have a delivery wait for its batch, if its handler takes batches."""
        batching = self._batching
        if batching is None or delivery.is_suspect or delivery.packet.queue not in batching:
            self._lanes.add(delivery)
        else:
            batching.add(delivery)

    def _let_in(self, delivery: Delivery) -> None:
        self._open_to(delivery)
        self._wake()

    def _take_out(self, queue: str) -> list[Delivery]:
        """Take out what a gate let through and has not begun."""
        found = self._lanes.surplus(queue, 0)
        if self._batching is None or queue not in self._batching:
            return found
        single = [one for one in found if not isinstance(one, Bundle)]
        single += self._batching.taken_out(queue)
        for bundle in (one for one in found if isinstance(one, Bundle)):
            self.gates[queue].calls.forget(bundle)
            self._batching.done(queue)
            single += bundle.deliveries
        return single

    def _note_end(self, delivery: Delivery) -> None:
        self.gates.ended(delivery)
        if isinstance(delivery, Bundle) and self._batching is not None:
            self.handled += len(delivery.deliveries) - 1
            self._batching.done(delivery.packet.queue)

    def _bundled(self, bundle: Bundle) -> None:
        gate = self.gates.get(bundle.packet.queue)
        if gate is None or gate.begin(bundle):
            self._lanes.add(bundle)
            self._wake()
            return
        gate.hand_back(bundle.deliveries)
        if self._batching is not None:
            self._batching.done(bundle.packet.queue)

    def _resize(self, queue: str, window: int, is_smaller: bool) -> None:  # noqa: FBT001 - as it is called
        """Hold so many deliveries of a queue; hand back what is too much of it."""
        if self._subscription is not None:
            self._subscription.widen(queue, window)
            if is_smaller:
                surplus = self._lanes.surplus(queue, window)
                if self._runtime.meters is not None:
                    self._runtime.meters.came_to("returned", (d.packet for d in surplus))
                self._subscription.hand_back(surplus)

    def _wake(self) -> None:
        """Have runners begin where there is something to begin: one, or as many as it takes.

        One is enough as long as handlers do not wait: it would find nothing left to do.
        """
        wanted = self._lanes.waiting if self._is_waiting else 1
        while self._waking < wanted and self._lanes.may_begin:
            if self._resting:
                resting = self._resting.pop()
                if not resting.done():
                    resting.set_result(None)
            elif len(self._runners) < self._concurrency:
                # Owned by stop(), which ends it.
                runner = asyncio.create_task(self._run(), context=self._context.copy())
                self._runners.add(runner)
                runner.add_done_callback(self._runner_ended)
            else:
                return
            self._waking += 1

    async def _run(self) -> None:
        """Process deliveries one after another, until cancelled."""
        loop, lanes = asyncio.get_running_loop(), self._lanes
        turns, is_woken = 0, True
        hand = Hand()
        in_hand.set(hand)
        own_context = copy_context()
        while True:
            delivery = lanes.next()
            if is_woken:
                self._waking -= 1
                self._is_waiting = delivery is not None
                is_woken = False
            if delivery is None:
                self._rest()
                if lanes.is_closed:
                    return
                resting: asyncio.Future[None] = loop.create_future()
                self._resting.append(resting)
                hand.packet = None
                await resting
                turns, is_woken = 0, True
                continue
            self._busy += 1
            if lanes.waiting:
                self._wake()
            hand.packet = delivery.packet
            try:
                if not self._committer.has_room:
                    await self._committer.room()
                await self._handling.process(delivery, self._subscribed)
            finally:
                self._busy -= 1
                self.handled += 1
                self._pacing.handled(delivery.packet.queue)
                lanes.done(delivery)
                if self._ended is not None:
                    self._ended(delivery)
            if copy_context() != own_context:
                # What a handler set is its message's; the next one begins without it.
                return
            turns += 1
            if turns == TURNS:
                # Handlers that never wait must not keep the loop from everything else.
                turns = 0
                await asyncio.sleep(0)

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        self._runners.discard(runner)
        self._rest()
        self._wake()

    def _again(self, delivery: Delivery) -> None:
        self._lanes.add(delivery)
        self._wake()

    def _rest(self) -> None:
        """Note that nothing is under way, if so; what waits behind a closed gate is not."""
        if not self._busy and not self._pipeline.under_way and not self._lanes.may_begin:
            self._is_idle.set()

    async def _ask_inbox(self, flagged: Sequence[Delivery]) -> None:
        """Ack what had its outcome; have the rest processed, what may have killed alone."""
        came_s = _now_s()
        seen: set[tuple[str, int]] = set()
        keys = [(d.packet.id, d.packet.generation, d.packet.birth_ms or 0) for d in flagged]
        try:
            await self._suspicions.flag(flagged, came_s)
            seen = await self._runtime.store.seen(keys)
        except Exception as error:  # noqa: BLE001 - only a hint is lost: the commit asks again
            log.info("inbox not asked", error=str(error))
        had: list[Delivery] = []
        for delivery in flagged:
            if (delivery.packet.id, delivery.packet.generation) in seen:
                had.append(delivery)
            else:
                self._add(delivery)
        self._subscribed.ack(had)
        if self._runtime.meters is not None:
            self._runtime.meters.came_to("repeat", (delivery.packet for delivery in had))
        self._busy -= len(flagged)
        self._rest()
        self._wake()

    @property
    def _subscribed(self) -> Subscription:
        assert self._subscription is not None  # noqa: S101 - deliveries come from it
        return self._subscription


def _now_s() -> float:
    return asyncio.get_running_loop().time()
