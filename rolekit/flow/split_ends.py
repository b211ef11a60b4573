"""What becomes of the parts of a long split when its message dies before its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.errors import Diverged
from rolekit.model.position import Frame
from rolekit.model.reassembly import ClosedBy, Closing
from rolekit.store.base import SplitMove

if TYPE_CHECKING:
    from rolekit.flow.runtime import Arrival, Runtime
    from rolekit.store.base import SplitRow, Step


async def end_split(
    runtime: Runtime, arrival: Arrival, step: Step, error: Exception | None
) -> None:
    """Add to the step of a dead letter where the sequence of its split ends.

    The failure stands behind the parts that were committed. A gather that waits for its holes
    waits there for a replay, which goes on behind them; any other takes it as the last one.
    Where a repeat yielded something else, or the gather fails with its first hole, the
    sequence is over, and a replay begins another.
    """
    if arrival.plan.kind != "handle" or arrival.plan.shape != "iterator":
        return
    row = await runtime.store.find_split(arrival.packet.id)
    if row is None or step.dead is None:
        return
    name = arrival.plan.opens_in(runtime.plan)
    if name is not None:
        frame = Frame(row.sequence, name, ())
    elif arrival.head.frames:
        frame = arrival.head.frames[-1]
        step.closings = list(step.closings)[:-1]  # the position is an open split by now
    else:
        step.split = _move(arrival, row, is_over=False)
        return
    gather = runtime.plan.handlers[frame.gather]
    is_other = isinstance(error, Diverged)
    is_over = name is not None and (is_other or gather.on_dead == "fail")
    step.split = _move(arrival, row, is_over=is_over)
    if not is_over:
        has_end = is_other or gather.on_dead != "wait"
        step.closings = [
            *step.closings,
            *_failed(frame, row.places, step.dead.id, step.dead.reason, has_end=has_end),
        ]


def _move(arrival: Arrival, row: SplitRow, *, is_over: bool) -> SplitMove:
    """Let the step be refused if another attempt goes on meanwhile."""
    return SplitMove(
        id=row.id,
        origin=row.origin,
        generation=arrival.packet.generation,
        sequence=row.sequence,
        before=row.next,
        after=row.next,
        places=row.places,
        digest=row.digest,
        is_last=is_over,
        is_failed=is_over,
    )


def _failed(
    frame: Frame, places: int, dead_letter: str, reason: str, *, has_end: bool
) -> list[Closing]:
    failed = Closing(
        sequence=frame.sequence,
        path=(*frame.path, places),
        by=ClosedBy.FAILED,
        detail=reason[:500],
        dead_letter=dead_letter,
    )
    end = Closing(sequence=frame.sequence, path=frame.path, by=ClosedBy.SPLIT, total=places + 1)
    return [failed, end] if has_end else [failed]
