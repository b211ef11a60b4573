"""THE MAIN PATH: what happens to one delivery, in which order.

    decode -> handle -> direct step:   publish, then ack
                        recorded step: commit, then ack, then what was committed leaves

Nothing leaves before the commit, and the ack comes after it. A crash anywhere brings the
delivery back, and the inbox turns the repeat into a no-op. `process` returns when the
handler has; what it gave is committed or published together with that of others, and each
delivery is settled when its own outcome is known.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import Contended, FenceLost, StateClash, Unavailable
from rolekit.events import Handled, is_observed
from rolekit.flow import failure
from rolekit.flow.deadlines import Overran
from rolekit.flow.telling import tell_handled
from rolekit.flow.turnstile import NotYet
from rolekit.flow.work import Work, Worker
from rolekit.observe.tracing import within
from rolekit.store.base import Outcome, Taken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from rolekit.flow.call import Handler
    from rolekit.flow.commit import Committer
    from rolekit.flow.outbox import Forwarder
    from rolekit.flow.runtime import Arrival, Runtime
    from rolekit.flow.submitted import Submitted
    from rolekit.observe.meters import HandlerMeters
    from rolekit.store.base import OpenStep, Step
    from rolekit.transport.base import Delivery

log = structlog.get_logger("rolekit.pipeline")

HAND_BACK_S = 1.0
REDO_S = 0.05
REDO_MAX_S = 2.0
REDOS = 5
NOT_ITS_FAULT = (Unavailable, StateClash, Contended)
"""A database that is away, or a state that changed meanwhile: no attempt is used up."""


class Interrupted(Exception):
    """A handler ended as cancelled, though nobody cancelled it."""


class Pipeline:
    """Handles deliveries of one role's queues, one call of `process` each.

    Args:
        runtime: Of this process.
        handlers: Of the role, by queue.
        committer: For recorded steps.
        forwarder: For direct ones.
        recycle: Called when this instance must be replaced.

    Attributes:
        under_way: Deliveries whose handler has returned and whose outcome is not known yet.
        on_again: Takes a delivery that must run again, since a state changed meanwhile.
        on_settled: Called each time one of those is settled.
        on_failed: Called with each failure before it is recorded.
    """

    def __init__(
        self,
        runtime: Runtime,
        handlers: Mapping[str, Handler],
        committer: Committer,
        forwarder: Forwarder,
        recycle: Callable[[str], None],
    ) -> None:
        self._runtime = runtime
        self._worker = Worker(runtime, handlers, committer.submit, committer.room)
        self._handlers = handlers
        self._committer = committer
        self._forwarder = forwarder
        self._recycle = recycle
        self._failing: set[asyncio.Task[None]] = set()
        self._is_stopped = False
        self._tracing = runtime.tracing
        meters = runtime.meters
        self._meters = {name: meters.handler(name) for name in handlers} if meters else {}
        self._beginners = frozenset(
            name for name, one in handlers.items() if one.plan.timing or one.plan.reads_from
        )
        self._is_told = is_observed(Handled)
        self._is_watched = bool(self._meters) or self._tracing is not None or self._is_told
        self.under_way = 0
        self.on_again: Callable[[Delivery], None] = lambda _: None
        self.on_settled: Callable[[], None] = lambda: None
        self.on_failed: Callable[[Delivery, Exception], None] = lambda _, __: None

    @property
    def before_call(self) -> Callable[[Arrival], Awaitable[None]] | None:
        """What is awaited before a gather is called; may raise `NotYet`. None: nothing."""
        return self._worker.before_call

    @before_call.setter
    def before_call(self, enter: Callable[[Arrival], Awaitable[None]] | None) -> None:
        self._worker.before_call = enter

    async def process(self, arrival: Arrival, *, to_the_end: bool = False) -> None:
        """Handle one delivery, and see to it that it is settled.

        Args:
            arrival: The delivery.
            to_the_end: Return when it is settled, rather than when its handler returned.
        """
        work = Work()
        tracing, began_s = self._tracing, 0.0
        if self._is_watched:
            began_s = time.time()
            if tracing is not None:
                if began_s > tracing.look_s:
                    tracing.look(began_s)
                head = arrival.head
                if (
                    head.headers
                    or head.sent_at_ms < tracing.late_ms  # on one clock never after its birth
                    or (tracing.wanted and head.root in tracing.wanted)
                    or (self._beginners and arrival.plan.name in self._beginners)
                ):
                    arrival = tracing.begin(arrival, began_s)
        try:
            outcome = await self._attempt(arrival, work)
            if self._is_watched:
                arrival = self._note_handled(arrival, work, began_s)
            if outcome is None:
                return
            if to_the_end:
                await outcome
        except Exception as error:  # noqa: BLE001 - the edge of one delivery: its policy decides
            await self._recover(arrival, error, began_s)
            return
        if to_the_end:
            self._settle(arrival, work.step)
        else:
            self.under_way += 1
            outcome.add_done_callback(partial(self._ended, arrival, work.step))

    def _note_handled(self, arrival: Arrival, work: Work, began_s: float) -> Arrival:
        """Count a call; where nobody traces it, remember it, or trace it now if it was slow."""
        took_s = time.time() - began_s
        cells = self._meters.get(arrival.plan.name)
        if cells is not None:
            cells.took.append(took_s)
            cells.waited.append(began_s - arrival.head.sent_at_ms / 1000)
        if self._is_told:
            tell_handled(arrival, began_s, took_s)
        tracing = self._tracing
        if tracing is not None and arrival.trace is None:
            if took_s > tracing.slow_s:
                return tracing.late(arrival, since_s=began_s)
            root, memory = arrival.head.root, tracing.memory
            # `handled` asks too, for batches: a call for each that is left out costs more.
            if root < memory.share.below or (memory.wanted and root in memory.wanted):
                memory.handled(arrival, began_s, took_s, work.step, work.direct)
        return arrival

    async def _attempt(self, arrival: Arrival, work: Work) -> Submitted | None:
        """Handle a delivery and hand on what came of it; None: it is settled already."""
        try:
            if arrival.trace is None:
                await self._run(arrival, work)
            else:
                with within(arrival.trace.process.context):
                    await self._run(arrival, work)
                arrival.trace.handled(work.step, work.direct)
            return await self._record(arrival, work)
        finally:
            if work.context is not None:
                await work.abandon()

    async def _run(self, arrival: Arrival, work: Work) -> None:
        """Run the handler; what it awaited and somebody else cancelled is its failure."""
        try:
            await self._worker.run(arrival, work)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Interrupted("Something that the handler awaited was cancelled.") from error
        except (Taken, *NOT_ITS_FAULT):
            raise
        except Exception as error:
            if work.context is not None and not await work.context.rests_on_facts():
                raise StateClash(
                    "It failed over a state that is another one by now."
                ) from error
            raise

    async def _record(self, arrival: Arrival, work: Work) -> Submitted | None:
        """Hand on what came of a delivery: the future tells when it is durable."""
        if work.direct is not None:
            return self._forwarder.forward(arrival.subscription, arrival.delivery, work.direct)
        if work.step is None:
            arrival.subscription.ack([arrival.delivery])
            self._note_settled(arrival, None)
            return None
        if work.opened is not None:
            # Cancelling inside a commit would leave its outcome unknown, and unsaid.
            await asyncio.shield(self._finish(work.opened, work.step))
            self._settle(arrival, work.step)
            return None
        outcome = self._committer.submit(work.step)
        if work.context is not None and work.step.states:
            work.context.hand_on(work.step.states, outcome)
        return outcome

    async def _finish(self, opened: OpenStep, step: Step) -> None:
        self._committer.announce(await opened.finish(step))

    def _ended(self, arrival: Arrival, step: Step | None, outcome: Submitted) -> None:
        """Settle a delivery whose outcome is known, or see what went wrong."""
        if self._is_stopped:
            _give_up(arrival, "stopped")
            self._is_settled()
        elif (error := outcome.exception()) is None:
            self._settle(arrival, step)
            self._is_settled()
        elif isinstance(error, StateClash):
            _give_up(arrival, "runs again")
            self.on_again(arrival.delivery)
            self._is_settled()
        else:
            # Owned by stop(), which ends it.
            task = asyncio.create_task(self._fail_surely(arrival, error))
            self._failing.add(task)
            task.add_done_callback(self._failed)

    async def _fail_surely(self, arrival: Arrival, error: Exception) -> None:
        """Record a failure; what cannot be recorded now is handed back, to come again."""
        try:
            await self._recover(arrival, error)
        except Exception:
            log.exception("handing back what cannot be recorded", message=arrival.packet.id)
            await asyncio.sleep(HAND_BACK_S)
            if (cells := self._cells_of(arrival)) is not None:
                cells.returned += 1
            arrival.subscription.hand_back([arrival.delivery])

    def _failed(self, task: asyncio.Task[None]) -> None:
        self._failing.discard(task)
        self._is_settled()

    def _is_settled(self) -> None:
        self.under_way -= 1
        self.on_settled()

    def _settle(self, arrival: Arrival, step: Step | None) -> None:
        self._note_settled(arrival, step)
        if step is None:
            return  # the forwarder acked
        if step.claim is None:
            arrival.subscription.ack([arrival.delivery])
        else:
            arrival.subscription.release([arrival.delivery])

    def _note_settled(self, arrival: Arrival, step: Step | None) -> None:
        if arrival.trace is not None:
            arrival.trace.settled(step)
        if (cells := self._cells_of(arrival)) is not None:
            if step is None or step.outcome is Outcome.DONE:
                cells.done += 1
            elif step.outcome is Outcome.RETRY:
                cells.retry += 1
            else:
                cells.dead += 1

    def _note_repeat(self, arrival: Arrival) -> None:
        _give_up(arrival, "had its outcome")
        if (cells := self._cells_of(arrival)) is not None:
            cells.repeat += 1

    def _cells_of(self, arrival: Arrival) -> HandlerMeters | None:
        """Return what counts a handler, also one that only another version has."""
        name, meters = arrival.plan.name, self._runtime.meters
        found = self._meters.get(name)
        return found if found is not None or meters is None else meters.handler(name)

    async def stop(self) -> None:
        """Give up what is being recorded; from now on nothing runs again."""
        self._is_stopped = True
        for task in list(self._failing):
            task.cancel()
        await asyncio.gather(*self._failing, return_exceptions=True)

    # -- when it went wrong ------------------------------------------------------------------

    async def _recover(self, arrival: Arrival, error: Exception, began_s: float = 0.0) -> None:
        """Record a failure; or run it again, to the end, where the message is not at fault.

        A message for which the database is away again and again, while it answers others,
        is at fault after all: its transaction idled too long, say, and the server ended its
        connection.

        Raises:
            FenceLost: Its key's partition has another owner by now.
        """
        redo_s = REDO_S
        for redone in itertools.count():
            if isinstance(error, FenceLost):
                _give_up(arrival, "has another owner")
                raise error
            if isinstance(error, Taken):
                self._note_repeat(arrival)
                arrival.subscription.ack([arrival.delivery])
                return
            if isinstance(error, NotYet):
                await self.put_off(arrival, error)
                return
            if not isinstance(error, NOT_ITS_FAULT):
                await self._fail(arrival, error, began_s)
                return
            log.info("running again", message=arrival.packet.id, because=str(error))
            if redone >= REDOS and isinstance(error, Unavailable) and await self._answers():
                await self._fail(arrival, error, began_s)
                return
            await asyncio.sleep(redo_s * random.random())  # noqa: S311 - jitter
            redo_s = min(redo_s * 2, REDO_MAX_S)
            work = Work()
            try:
                outcome = await self._attempt(arrival, work)
                if outcome is not None:
                    await outcome
                    self._settle(arrival, work.step)
            except Exception as again:  # noqa: BLE001 - likewise
                error = again
            else:
                return

    async def _answers(self) -> bool:
        try:
            await self._runtime.store.next_due_ms()
        except Unavailable:
            return False
        return True

    async def put_off(self, arrival: Arrival, later: NotYet) -> None:
        """Record that a limit lets a message come again, without an attempt."""
        step = failure.put_off(
            self._runtime, arrival, later.due_ms, later.why, has_slots=later.has_slots
        )
        if arrival.trace is not None:
            arrival.trace.handled(step)
        commit = self._committer.submit
        self._settle(arrival, await failure.record(self._runtime, arrival, step, None, commit))

    async def _fail(self, arrival: Arrival, error: Exception, began_s: float = 0.0) -> None:
        if self._tracing is not None:
            arrival = self._tracing.failed(arrival, error, began_s)
        if began_s and (cells := self._cells_of(arrival)) is not None:
            cells.raised(error, time.time() - began_s)
            cells.waited.append(began_s - arrival.head.sent_at_ms / 1000)
        self.on_failed(arrival.delivery, error)
        step = failure.step_for(self._runtime, arrival, error)
        if arrival.trace is not None:
            arrival.trace.handled(step)
        commit = self._committer.submit
        step = await failure.record(self._runtime, arrival, step, error, commit)
        self._settle(arrival, step)
        plan = arrival.plan
        if isinstance(error, Overran) and plan.call in {"sync", "iterator"}:
            self._recycle(f"{plan.name} overran its {plan.timeout_s:g} s in a thread")


def _give_up(arrival: Arrival, why: str) -> None:
    if arrival.trace is not None:
        arrival.trace.given_up(why)
