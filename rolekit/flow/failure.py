"""What becomes of a message that failed: the next generation, or a dead letter.

Both take the inbox row, so a failure competes with every other outcome of the message, and
one of them is recorded.

Source: DESIGN 4.3.
"""

from __future__ import annotations

import random
import traceback
from dataclasses import replace as with_fields
from typing import TYPE_CHECKING

import msgspec
import structlog

from rolekit.errors import CodecError, TooOld, UnknownType, WriteFailed, storable
from rolekit.flow.letters import answered_by, notices
from rolekit.flow.split_ends import end_split
from rolekit.flow.telling import tell_failed
from rolekit.model.envelope import Head, Kind, Packet, encode_head
from rolekit.model.ids import derive
from rolekit.model.reassembly import ClosedBy, Closing
from rolekit.model.retry import Again, Park, decide, decide_unknown
from rolekit.store.base import DeadLetterRow, Due, Outcome, Reply, Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rolekit.flow.runtime import Arrival, Runtime
    from rolekit.model.position import Frame

log = structlog.get_logger("rolekit.pipeline")

TRACE_CHARS = 20_000
WHY_CHARS = 300


def step_for(runtime: Runtime, arrival: Arrival, error: Exception) -> Step:
    """Decide about a failure, say so, and build the step that records it."""
    verdict = _decided(runtime, arrival, error)
    message, handler = arrival.packet.id, arrival.plan.name
    if isinstance(verdict, Park):
        log.error(
            "dead letter; replay it with `rolekit dead replay` once its cause is gone",
            message=message,
            handler=handler,
            reason=verdict.reason,
        )
        is_old = isinstance(error, TooOld)
        return parked(runtime, arrival, verdict, error, too_old=is_old)
    log.warning(
        "failed; it comes again",
        message=message,
        handler=handler,
        in_s=round(verdict.delay_s, 3),
        error=f"{type(error).__name__}: {error}",
    )
    return _retried(runtime, arrival, verdict, error)


def _decided(runtime: Runtime, arrival: Arrival, error: Exception) -> Again | Park:
    attempts = arrival.head.attempts
    if isinstance(error, UnknownType):
        now_ms = runtime.clock.now_ms()
        return decide_unknown(attempts, now_ms, runtime.unknown_s, str(error))
    if isinstance(error, (TooOld, CodecError)):
        return Park(str(error))
    policies = (*arrival.plan.retry, runtime.plan.retry)
    return decide(error, attempts, policies, random.random())  # noqa: S311 - jitter


async def record(
    runtime: Runtime,
    arrival: Arrival,
    step: Step,
    error: Exception | None,
    commit: Callable[[Step], Awaitable[object]],
) -> Step:
    """Commit the step of a failure; one the inbox is too old for is parked by force.

    Returns:
        The step that was committed.
    """
    await _end_what_was_begun(runtime, arrival, step, error)
    try:
        await commit(step)
    except TooOld as old:
        step = parked(runtime, arrival, Park(str(old)), error, too_old=True)
        await _end_what_was_begun(runtime, arrival, step, error)
        await commit(step)
    tell_failed(arrival, step, error)
    return step


async def _end_what_was_begun(
    runtime: Runtime, arrival: Arrival, step: Step, error: Exception | None
) -> None:
    """Let the dead letter of a release, or of a long split, fail where that stopped giving.

    Nobody else moves the sequence between this and the commit: that takes the token which is
    parked here, and whoever commits another outcome of it makes this one void.
    """
    head = arrival.head
    if step.dead is not None and not head.is_release:
        await end_split(runtime, arrival, step, error)
    if step.dead is None or not head.is_release or not head.frames:
        return
    view = await runtime.store.view(head.sequence, 1, whole=False)
    if view is not None:
        fail_behind(runtime, step, head, view.emitted)


def blank(runtime: Runtime, arrival: Arrival, outcome: Outcome) -> Step:
    """Build the step of a delivery, with nothing in it yet."""
    packet, turn = arrival.packet, arrival.turn
    joins = runtime.transport.features.joins_store
    step = Step(
        id=packet.id,
        generation=packet.generation,
        birth_ms=packet.birth_ms or 0,
        outcome=outcome,
        claim=arrival.delivery.tag if joins else None,
        trace=arrival.trace,
    )
    if turn is not None:
        turn.mark(step, arrival.plan)
    return step


def _retried(runtime: Runtime, arrival: Arrival, again: Again, error: Exception) -> Step:
    due_ms = runtime.clock.now_ms() + round(again.delay_s * 1000)
    head = msgspec.structs.replace(arrival.head, attempts=again.attempts)
    packet = msgspec.structs.replace(
        arrival.packet,
        generation=arrival.packet.generation + 1,
        birth_ms=due_ms,
        head=encode_head(head),
    )
    step = blank(runtime, arrival, Outcome.RETRY)
    step.later = [Due(packet, due_ms, _why_again(again, error))]
    return step


def put_off(
    runtime: Runtime, arrival: Arrival, due_ms: int, why: str, *, has_slots: bool
) -> Step:
    """Build the step of a message that a limit lets come again, without using up an attempt.

    Args:
        runtime: Of this process.
        arrival: The delivery.
        due_ms: When it comes.
        why: For an operator.
        has_slots: It then has the slots that it needs, by all rates of its handler.
    """
    attempts = msgspec.structs.replace(arrival.head.attempts, has_slots=has_slots)
    packet = msgspec.structs.replace(
        arrival.packet,
        generation=arrival.packet.generation + 1,
        birth_ms=due_ms,
        head=encode_head(msgspec.structs.replace(arrival.head, attempts=attempts)),
    )
    step = blank(runtime, arrival, Outcome.RETRY)
    step.later = [Due(packet, due_ms, why)]
    return step


def _why_again(again: Again, error: Exception) -> str:
    """Say for an operator which attempt failed, and how."""
    tried = again.attempts.failures
    which = f"attempt {tried} of {again.of}" if again.of else f"after attempt {tried}"
    return f"{which} ({storable(f'{type(error).__name__}: {error}')[:WHY_CHARS]})"


def parked(
    runtime: Runtime,
    arrival: Arrival,
    park: Park,
    error: Exception | None,
    *,
    too_old: bool = False,
) -> Step:
    """Build the step that makes a message a dead letter, and tells whoever waits for it."""
    packet, head = arrival.packet, arrival.head
    answers = answered_by(head, packet.body)
    step = blank(runtime, arrival, Outcome.DEAD)
    step.skips_inbox = too_old
    dead = DeadLetterRow(
        id=f"{packet.id}-{packet.generation}",
        packet=packet,
        handler=arrival.plan.name,
        type=_type_of(head),
        reason=storable(park.reason)[:2000],
        traceback="" if error is None else _trace(error),
        attempts=head.attempts.failures + head.attempts.crashes + 1,
        is_forced=too_old,
        answers="" if answers is None else answers.letter,
        detail=storable(error.detail)[:2000] if isinstance(error, WriteFailed) else "",
    )
    park_in(runtime, step, dead, head)
    return step


def park_in(runtime: Runtime, step: Step, dead: DeadLetterRow, head: Head) -> None:
    """Add a dead letter to a step, and what it means to others.

    A gather that waits at its position is told that nothing comes. So is whoever asks or
    follows, unless handlers are told of it: then they answer.
    """
    told = notices(runtime, dead, head)
    step.dead = with_fields(dead, told=len(told))
    step.outputs = [*step.outputs, *told]
    notice = answered_by(head, dead.packet.body)
    if head.frames:
        marker = failed_position(head.frames[-1], dead.id, dead.reason)
        step.closings = [*step.closings, marker]
    elif not told and not (notice is not None and notice.is_placed):
        _tell(step, head, dead.id, dead.reason)


def _type_of(head: Head) -> str:
    kind = Kind.RELEASE if head.is_release else head.kind
    name = storable(head.type) or kind.name.lower()
    return f"DeadLetter[{name}]" if head.kind is Kind.DEAD else name


def _tell(step: Step, head: Head, dead_letter: str, reason: str) -> None:
    """Add to a step that no answer will come, for whoever asks or follows."""
    if head.reply_to:
        told = msgspec.structs.replace(head, kind=Kind.FAILURE, type="", frames=())
        body = msgspec.json.encode([dead_letter, reason])
        step.outputs = [
            *step.outputs,
            Packet(
                queue=head.reply_to,
                id=derive(step.id, step.generation, "failure"),
                head=encode_head(told),
                body=body,
            ),
        ]
    elif head.root:
        step.replies = [
            *step.replies,
            Reply(
                root=head.root,
                id=derive(step.id, step.generation, "failure"),
                body=msgspec.json.encode([dead_letter, reason]),
                is_failure=True,
            ),
        ]


def fail_behind(runtime: Runtime, step: Step, head: Head, emitted: int) -> None:
    """Fail behind what a gather gave already: by then its position is an open split.

    The failure stands as one more child. It is the last one, unless the gather around waits
    for its holes: a replay then fills this one and may go on behind it.

    Args:
        runtime: Tells which gather waits.
        step: Its last closing is the failure, as `park_in` made it.
        head: Names the position.
        emitted: How many children there are; 0: the position is not split, and fails itself.
    """
    if not emitted or not head.frames:
        return
    frame = head.frames[-1]
    failed = msgspec.structs.replace(step.closings[-1], path=(*frame.path, emitted))
    end = Closing(
        sequence=frame.sequence, path=frame.path, by=ClosedBy.SPLIT, total=emitted + 1
    )
    gather = runtime.plan.handlers.get(frame.gather)
    waits = gather is not None and gather.on_dead == "wait"
    step.closings = [*step.closings[:-1], failed, *([] if waits else [end])]


def failed_position(frame: Frame, dead_letter: str, reason: str) -> Closing:
    """Build the marker that closes the position of a dead letter."""
    return Closing(
        sequence=frame.sequence,
        path=frame.path,
        by=ClosedBy.FAILED,
        detail=reason[:500],
        dead_letter=dead_letter,
    )


def _trace(error: Exception) -> str:
    return storable("".join(traceback.format_exception(error)))[-TRACE_CHARS:]
