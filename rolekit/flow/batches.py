"""One batch: handled together, committed together, each item with an outcome of its own.

The effects of a batch belong to all of its items, so they commit with the inbox rows of all
of them, or not at all. Where some rows are taken, those items had their outcome: nothing is
committed, and the batch runs again without them.

When a batch fails its items are tried in halves, and halves of those, until whoever is at
fault is alone; that one alone uses up an attempt. Where the first few fail alone and nothing
succeeds, the items are not at fault: the rest comes again later, and uses up none.

Source: API 1 (Batch), DESIGN 4.1 and 4.5.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import CodecError, Retry, StateClash, Unavailable
from rolekit.events import Handled, is_observed
from rolekit.flow import failure
from rolekit.flow.batch_context import BatchContext
from rolekit.flow.batch_items import Item, Search, distinct, one_each
from rolekit.flow.call import Handler, call
from rolekit.flow.deadlines import Overran
from rolekit.flow.outputs import Placing
from rolekit.flow.pipeline import (
    HAND_BACK_S,
    NOT_ITS_FAULT,
    REDO_MAX_S,
    REDO_S,
    REDOS,
    Interrupted,
)
from rolekit.flow.runtime import Arrival
from rolekit.flow.telling import tell_handled
from rolekit.model import celery
from rolekit.model.envelope import decode_head
from rolekit.model.parts import Batch
from rolekit.store.base import Outcome, SomeTaken, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rolekit.flow.batching import Bundle
    from rolekit.flow.commit import Committer
    from rolekit.flow.runtime import Runtime
    from rolekit.observe.meters import HandlerMeters
    from rolekit.transport.base import Delivery, Subscription

log = structlog.get_logger("rolekit.batches")

LATER_S = (2.0, 10.0)
"""The rest of such a batch comes again after a time between these."""


class Batches:
    """Handles the batches of one role.

    Args:
        runtime: Of this process.
        handlers: Of the role, by queue.
        committer: For their steps.
        recycle: Called when this instance must be replaced.

    Attributes:
        on_failed: Called with each batch of which nothing succeeded, and why.
    """

    def __init__(
        self,
        runtime: Runtime,
        handlers: Mapping[str, Handler],
        committer: Committer,
        recycle: Callable[[str], None],
    ) -> None:
        self._runtime = runtime
        self._handlers = handlers
        self._committer = committer
        self._recycle = recycle
        self._is_told = is_observed(Handled)
        self.on_failed: Callable[[Delivery, Exception], None] = lambda _, __: None

    async def process_all(
        self, bundle: Bundle, subscription: Subscription
    ) -> Sequence[Delivery]:
        """Handle what waits together; return what cannot, since its head cannot be read."""
        arrivals: list[Arrival] = []
        unreadable: list[Delivery] = []
        for delivery in bundle.deliveries:
            plan = self._handlers[delivery.packet.queue].plan
            try:
                head = decode_head(delivery.packet.head)
            except CodecError:
                unreadable.append(delivery)
            else:
                arrivals.append(Arrival(delivery, subscription, head, plan))
        await self.process(arrivals, bundle)
        return unreadable

    async def process(self, arrivals: Sequence[Arrival], call: Delivery) -> None:
        """Handle deliveries of one queue together, and see to it that each is settled.

        Args:
            arrivals: Of the deliveries.
            call: What they came as: the batch, or the only delivery.
        """
        if self._runtime.tracing is not None:
            begin, now_s = self._runtime.tracing.begin, time.time()
            arrivals = [begin(arrival, now_s) for arrival in arrivals]
        items = distinct(arrivals)
        try:
            readable = [item for item in items if await self._is_read(item)]
            error = await self._search(readable) if readable else None
            if error is not None:
                self.on_failed(call, error)
        except Exception:
            # Nothing but a bug comes here; the deliveries must not be lost by it.
            log.exception("handing a batch back after an unexpected error", items=len(items))
            await asyncio.sleep(HAND_BACK_S)
            for item in items:
                if not item.is_settled:
                    for arrival in (item.arrival, *item.twins):
                        arrival.subscription.hand_back([arrival.delivery])
                        if (cells := self._cells_of(item)) is not None:
                            cells.came_to("returned")

    async def _is_read(self, item: Item) -> bool:
        """Decode an item; one that cannot be read fails by itself."""
        head, packet = item.arrival.head, item.arrival.packet
        try:
            if head.codec == celery.CODEC:
                celery.check_times(packet.body, self._runtime.clock.now_ms())
            item.message = self._runtime.codec.decode(
                head.type, head.type_version, head.codec, packet.body
            )
        except Exception as error:  # noqa: BLE001 - its policy decides
            await self._fail(item, error)
            return False
        return True

    async def _search(self, items: list[Item]) -> Exception | None:
        """Handle items; where that fails, those in smaller batches, down to one.

        Returns:
            An error, if nothing succeeded.
        """
        search = Search()
        ahead = [items]
        while ahead:
            some = ahead.pop(0)
            if search.is_vain:
                await self._later([item for each in (some, *ahead) for item in each])
                break
            left, error = await self._attempt(some)
            search.error = error or search.error
            if error is None:
                search.has_succeeded = True
            elif len(left) == 1:
                search.alone += 1
                await self._fail(left[0], error)
            elif isinstance(error, Retry) and not error.counts:
                await self._fail_all(left, [error] * len(left))
            else:
                log.warning(
                    "a batch failed; its items are tried in halves, to find which is at fault",
                    handler=left[0].arrival.plan.name,
                    items=len(left),
                    error=f"{type(error).__name__}: {error}",
                )
                middle = len(left) // 2
                ahead[:0] = [left[:middle], left[middle:]]
        return None if search.has_succeeded else search.error

    async def _attempt(self, items: list[Item]) -> tuple[list[Item], Exception | None]:
        """Handle a batch, again where its items are not at fault.

        Returns:
            What is left of it, and why; nothing, and None, when all of it is settled.
        """
        redo_s = REDO_S
        for redone in itertools.count():
            try:
                await self._once(items)
            except SomeTaken as taken:
                items = self._without(items, taken.keys)
                if not items:
                    return [], None
                continue
            except NOT_ITS_FAULT as error:
                log.info("running a batch again", items=len(items), because=str(error))
                if redone >= REDOS and isinstance(error, Unavailable) and await self._answers():
                    return items, error
            except Exception as error:  # noqa: BLE001 - the edge of one batch
                return items, error
            else:
                return [], None
            await asyncio.sleep(redo_s * random.random())  # noqa: S311 - jitter
            redo_s = min(redo_s * 2, REDO_MAX_S)
        raise AssertionError  # pragma: no cover - it counts for ever

    async def _once(self, items: list[Item]) -> None:
        """Run the handler, commit what came of it, settle."""
        handler, began_s = self._handlers[items[0].arrival.plan.name], time.time()
        batch = Batch(
            [item.message for item in items], ids=[item.arrival.packet.id for item in items]
        )
        ctx: BatchContext | None = None
        if handler.takes_context:
            ctx = BatchContext(self._runtime, [item.arrival for item in items])
        try:
            results = await self._called(handler, batch, ctx)
            steps = self._steps(items, batch, results)
            self._note_handled(items, steps, began_s)
            if ctx is not None:
                ctx.add_to(steps[0])
            await self._committer.submit_whole(steps)
            if ctx is not None:
                ctx.hand_on_committed()
        except StateClash:
            if ctx is not None:
                await ctx.rests_on_facts()  # what was wrong is read anew
            raise
        finally:
            if ctx is not None:
                await ctx.abandon()
        for item, step in zip(items, steps, strict=True):
            self._settle(item, step)

    async def _called(
        self, handler: Handler, batch: Batch[object], ctx: BatchContext | None
    ) -> Sequence[object]:
        """Run the handler; return one result for each item."""
        limit = self._runtime.deadlines.limit(handler.plan.timeout_s)
        try:
            given = await call(handler, batch, None, ctx, limit)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Interrupted("Something that the handler awaited was cancelled.") from error
        except NOT_ITS_FAULT:
            raise
        except Exception as error:
            if ctx is not None and not await ctx.rests_on_facts():
                raise StateClash(
                    "It failed over a state that is another one by now."
                ) from error
            raise
        return one_each(handler, given, len(batch))

    def _steps(
        self, items: list[Item], batch: Batch[object], results: Sequence[object]
    ) -> list[Step]:
        """Build one step for each item; what was rejected or is to be retried gives nothing."""
        runtime = self._runtime
        steps: list[Step] = []
        for index, (item, result) in enumerate(zip(items, results, strict=True)):
            arrival = item.arrival
            steering = batch.steered(index)
            if steering is not None:
                if arrival.trace is not None:
                    arrival.trace.failed(steering)
                steps.append(failure.step_for(runtime, arrival, steering))
                continue
            placing = Placing(runtime, arrival.plan, arrival.packet, arrival.head)
            outputs = placing.one([] if result is None else [result])
            step = failure.blank(runtime, arrival, Outcome.DONE)
            step.outputs = outputs.packets
            step.closings = outputs.closings
            step.replies = outputs.replies
            steps.append(step)
        return steps

    def _note_handled(self, items: list[Item], steps: list[Step], began_s: float) -> None:
        cells, took_s = self._cells_of(items[0]), time.time() - began_s
        tracing = self._runtime.tracing
        for item, step in zip(items, steps, strict=True):
            if item.arrival.trace is not None:
                item.arrival.trace.handled(step)
            elif tracing is not None:
                tracing.memory.handled(item.arrival, began_s, took_s, step)
            if cells is not None:
                cells.took.append(took_s)
                cells.waited.append(began_s - item.arrival.head.sent_at_ms / 1000)
            if self._is_told:
                tell_handled(item.arrival, began_s, took_s)

    def _cells_of(self, item: Item) -> HandlerMeters | None:
        meters = self._runtime.meters
        return None if meters is None else meters.handler(item.arrival.plan.name)

    def _without(self, items: list[Item], taken: frozenset[tuple[str, int]]) -> list[Item]:
        """Settle the items that had their outcome; return the others."""
        left: list[Item] = []
        for item in items:
            packet = item.arrival.packet
            if (packet.id, packet.generation) in taken:
                self._settle(item, None)
            else:
                left.append(item)
        return left

    def _settle(self, item: Item, step: Step | None) -> None:
        """Settle the deliveries of an item; without a step its row was taken."""
        item.is_settled = True
        if item.arrival.trace is not None:
            item.arrival.trace.settled(step)
        if (cells := self._cells_of(item)) is not None:
            cells.came_to("repeat" if step is None else step.outcome.name.lower())
            cells.repeat += len(item.twins)
        subscription, own = item.arrival.subscription, item.arrival.delivery
        is_claimed = step is not None and step.claim is not None
        settle = subscription.release if is_claimed else subscription.ack
        settle([own])
        subscription.ack([twin.delivery for twin in item.twins])

    # -- when it went wrong ------------------------------------------------------------------

    async def _fail(self, item: Item, error: Exception) -> None:
        """Record that an item failed, by its own policy."""
        if self._runtime.tracing is not None:
            item.arrival = self._runtime.tracing.failed(item.arrival, error)
        arrival, commit = item.arrival, self._committer.submit
        step = failure.step_for(self._runtime, arrival, error)
        if arrival.trace is not None:
            arrival.trace.handled(step)
        step = await failure.record(self._runtime, arrival, step, error, commit)
        self._settle(item, step)
        plan = arrival.plan
        if isinstance(error, Overran) and plan.call == "sync":
            self._recycle(f"{plan.name} overran its {plan.timeout_s:g} s in a thread")

    async def _later(self, items: list[Item]) -> None:
        """Have items that are not at fault come again, with the attempts they had."""
        log.warning(
            "every item fails alone; the rest of the batch comes again later",
            handler=items[0].arrival.plan.name,
            items=len(items),
        )
        delays_s = [random.uniform(*LATER_S) for _ in items]  # noqa: S311 - jitter
        why = "every item of its batch failed"
        again = [Retry(why, delay_s=delay_s, counts=False) for delay_s in delays_s]
        await self._fail_all(items, again)

    async def _fail_all(self, items: list[Item], errors: Sequence[Exception]) -> None:
        """Record the failures of several, which commit together."""
        failing = map(self._fail, items, errors)
        for outcome in await asyncio.gather(*failing, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _answers(self) -> bool:
        try:
            await self._runtime.store.next_due_ms()
        except Unavailable:
            return False
        return True
