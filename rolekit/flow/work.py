"""From a delivery to what should be recorded about it: runs the handler, builds the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rolekit.errors import CodecError
from rolekit.flow import failure
from rolekit.flow.attempt import released
from rolekit.flow.call import Handler, call
from rolekit.flow.gathering import Gathering
from rolekit.flow.letters import is_replayed, letter_of
from rolekit.flow.outputs import Outputs, Placing, Results, direct, is_direct
from rolekit.flow.splitting import Splitting
from rolekit.flow.step_context import Caller, StepContext
from rolekit.model import celery
from rolekit.model.envelope import Kind, Packet
from rolekit.model.parts import DeadLetter
from rolekit.model.reassembly import ClosedBy, Closing
from rolekit.store.base import OpenStep, Outcome, Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from rolekit.flow.runtime import Arrival, Runtime


class Work(msgspec.Struct, eq=False):
    """What one attempt came to.

    Attributes:
        step: To commit; None with no `direct` either: nothing is left to do but to ack.
        direct: The output of a direct step.
        opened: The transaction that `ctx.tx` opened.
        context: Of the call, so that what it opened can be rolled back.
    """

    step: Step | None = None
    direct: Packet | None = None
    opened: OpenStep | None = None
    context: StepContext | None = None

    async def abandon(self) -> None:
        """Roll back what the handler opened and nobody committed."""
        context, self.context = self.context, None
        if context is not None:
            await context.abandon()


class Worker:
    """Runs the handlers of one role.

    Args:
        runtime: Of this process.
        handlers: By queue.
        commit: Submits a step that leaves before its message is done.
        room: Waits until what was committed leaves fast enough.

    Attributes:
        before_call: Awaited before a gather is called, which may raise `NotYet`.
    """

    def __init__(
        self,
        runtime: Runtime,
        handlers: Mapping[str, Handler],
        commit: Callable[[Step], Awaitable[bool]],
        room: Callable[[], Awaitable[None]],
    ) -> None:
        self._runtime = runtime
        self._commit = commit
        self._room = room
        self._handlers = handlers
        self._gathering = Gathering(runtime)
        self.before_call: Callable[[Arrival], Awaitable[None]] | None = None

    async def run(self, arrival: Arrival, work: Work) -> None:
        """Run what came, and fill in `work`.

        Raises:
            Exception: Whatever the handler, the codec or the store raised.
        """
        handler = self._handlers[arrival.plan.name]
        if arrival.head.is_release:
            await self._release(arrival, handler, work)
        elif arrival.plan.kind == "gather":
            work.step = self._stored(arrival)
        elif arrival.head.kind is Kind.TOMBSTONE:
            # What held its key was dropped.
            work.step = failure.blank(self._runtime, arrival, Outcome.DONE)
        else:
            await self._handle(arrival, handler, work)

    async def _handle(self, arrival: Arrival, handler: Handler, work: Work) -> None:
        runtime, head, packet, plan = self._runtime, arrival.head, arrival.packet, arrival.plan
        message: object = None
        if (head.kind is Kind.FIRING) is not (plan.timing is not None):
            raise CodecError(_what_came(plan.name, arrival))
        if head.kind is Kind.DEAD:
            message = letter = letter_of(runtime, head, packet.body)
            if await is_replayed(runtime.store, letter.id):
                work.step = failure.blank(runtime, arrival, Outcome.DONE)
                return
        elif plan.timing is None:
            if head.codec == celery.CODEC:
                celery.check_times(packet.body, runtime.clock.now_ms())
            message = runtime.codec.decode(
                head.type, head.type_version, head.codec, packet.body
            )
        placing: Placing | None = None
        ctx: StepContext | None = None
        if handler.takes_context:
            placing = Placing(runtime, plan, packet, head)
            caller = Caller(
                id=packet.id,
                key=None if arrival.turn is None else arrival.turn.key,
                scope=plan.role,
                handler=plan.name,
                timeout_s=plan.timeout_s,
            )
            work.context = ctx = StepContext(runtime, packet, head, placing, caller)
        splitting = await self._splitting(arrival, ctx)
        limit = runtime.deadlines.limit(plan.timeout_s)
        results = await call(handler, message, None, ctx, limit, splitting)
        if splitting is not None and splitting.is_long:
            outputs, move = splitting.last()
            self._fill(arrival, work, outputs)
            assert work.step is not None  # noqa: S101 - _fill made it
            work.step.split = move
            return
        if (ctx is None or not ctx.has_effects) and is_direct(runtime, arrival, results):
            work.direct = direct(runtime, arrival, results)
            return
        placing = placing or Placing(runtime, plan, packet, head)
        place = placing.one if plan.shape == "one" else placing.split
        self._fill(arrival, work, place(results))
        if isinstance(message, DeadLetter) and work.step is not None:
            work.step.answers = message.id

    async def _splitting(self, arrival: Arrival, ctx: StepContext | None) -> Splitting | None:
        """Make what takes the parts of a split of any length, where a handler yields."""
        if arrival.plan.shape != "iterator":
            return None
        splitting = Splitting(self._runtime, arrival, self._commit, self._room)
        splitting.context = ctx
        if arrival.packet.generation or arrival.delivery.redelivered:
            await splitting.resume()
        return splitting

    async def _release(self, arrival: Arrival, handler: Handler, work: Work) -> None:
        """Hand a run over, or move the cursor where there is nothing to hand over."""
        job = await self._gathering.read(arrival)
        if job is None:
            return
        if job.parts is None:
            work.step = failure.blank(self._runtime, arrival, Outcome.DONE)
            work.step.release = job.release
            self._gathering.add_failure(job, work.step)
            return
        if self.before_call is not None:
            await self.before_call(arrival)
        placing = Placing(self._runtime, arrival.plan, arrival.packet, arrival.head)
        sequence = job.release.sequence
        caller = Caller(
            id=job.run_id,
            key=sequence,
            scope=f"sequence:{sequence}",
            handler=arrival.plan.name,
            timeout_s=arrival.plan.timeout_s,
        )
        work.context = ctx = StepContext(
            self._runtime, arrival.packet, arrival.head, placing, caller
        )
        limit = self._runtime.deadlines.limit(arrival.plan.timeout_s)
        results = await call(handler, job.source, job.parts, ctx, limit)
        outputs = self._gathered(arrival, placing, results, job.emitted, job.is_last)
        self._fill(arrival, work, outputs[0])
        assert work.step is not None  # noqa: S101 - _fill made it
        joins = self._runtime.transport.features.joins_store
        follows = job.is_stream and not joins and bool(work.step.outputs)
        work.step.release = job.moved(outputs[1], follows=follows)
        if arrival.trace is not None and not job.is_stream:
            released(arrival.trace, sequence, job.paths)

    def _gathered(
        self,
        arrival: Arrival,
        placing: Placing,
        results: Results,
        emitted: int,
        is_last: bool,  # noqa: FBT001
    ) -> tuple[Outputs, int]:
        if not arrival.plan.whole:
            return placing.more(results, emitted, is_last=is_last)
        place = placing.one if arrival.plan.shape == "one" else placing.split
        return place(results), emitted

    def _stored(self, arrival: Arrival) -> Step | None:
        """Build the step that stores a part, or a tombstone, at its position."""
        head = arrival.head
        if not head.frames or head.frames[-1].gather != arrival.plan.name:
            return None
        step = failure.blank(self._runtime, arrival, Outcome.DONE)
        is_part = head.kind is Kind.MESSAGE
        step.closings = [
            Closing(
                sequence=head.frames[-1].sequence,
                path=head.frames[-1].path,
                by=ClosedBy.PART if is_part else ClosedBy.DROPPED,
                type=head.type,
                type_version=head.type_version,
                codec=head.codec,
                body=arrival.packet.body,
            )
        ]
        return step

    def _fill(self, arrival: Arrival, work: Work, outputs: Outputs) -> None:
        work.step = step = failure.blank(self._runtime, arrival, Outcome.DONE)
        step.outputs = outputs.packets
        step.opening = outputs.opening
        step.closings = outputs.closings
        step.replies = outputs.replies
        ctx = work.context
        if ctx is not None:
            step.writes = ctx.writes
            step.outputs = outputs.packets + ctx.sent
            step.later = ctx.later
            step.states = ctx.changed_states()
            work.opened = ctx.open_step


def _what_came(name: str, arrival: Arrival) -> str:
    if arrival.plan.timing is None:
        return f"{name} is not called by time any more, and this came from then."
    return f"{name} is called by time and takes no message, but a {arrival.head.type} came."
