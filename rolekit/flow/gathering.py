"""Releasing a sequence: read a run in order, seal it, hand it over, move the cursor.

The handler runs with no transaction open. The commit afterwards compares the cursor with
the one the run began at; whoever comes second discards what it did.

Source: DESIGN 4, "Releasing".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rolekit.errors import CodecError, Reject, UnknownType
from rolekit.flow import heaping
from rolekit.flow.failure import fail_behind, park_in
from rolekit.model.envelope import Kind, decode_head, handler_of
from rolekit.model.ids import derive
from rolekit.model.parts import Hole, Run
from rolekit.model.reassembly import ClosedBy, Closing, Cursor, Rules, Walk, walk
from rolekit.store.base import DeadLetterRow, Release, SequenceView, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.flow.runtime import Arrival, Runtime
    from rolekit.model.plan import HandlerPlan
    from rolekit.model.position import Path

MAX_WHOLE = 10_000
"""Parts that a gather may take as one list; more belong into runs."""
SPLITS = 256
"""Closings read beyond a run's size, for positions that hold no part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One release, ready to be handed over.

    Attributes:
        release: How the cursor moves.
        parts: What the handler is given; None: nothing, the cursor just moves.
        source: The message that was split, if the handler wants it.
        run_id: The same on every attempt.
        emitted: Positions that the gather's outputs have filled so far.
        is_last: No part follows.
        failed: Why the sequence ends as failed, or empty.
        split: The packet that was split.
        paths: Of the parts.
    """

    release: Release
    parts: object | None
    source: object
    run_id: str
    emitted: int
    is_last: bool
    failed: str = ""
    split: SequenceView | None = None
    is_stream: bool = False
    paths: Sequence[Path] = ()

    def moved(self, emitted: int, *, follows: bool) -> Release:
        """Return the release with the positions its outputs have filled.

        Args:
            emitted: How many.
            follows: Let a token leave when its outputs are in. Nobody releases the next run
                before that came: whoever releases them, outputs of a stream leave in order.
        """
        return replace(self.release, emitted=emitted, follows=follows)


class Gathering:
    """Reads releases for the gathers of one role."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def read(self, arrival: Arrival) -> Job | None:
        """Read the next run of a sequence.

        Returns:
            What to do, or None when the sequence is over or was moved on.
        """
        sequence, plan = arrival.head.sequence, arrival.plan
        if not plan.ordered:
            return await self._heap(sequence, plan)
        view = await self._runtime.store.view(sequence, plan.size + SPLITS, whole=False)
        if view is None or not view.is_open:
            return None
        if not view.is_ordered:  # it was opened when its gather took parts as they come
            return await self._heap(sequence, plan)
        follows = arrival.head.kind is Kind.BEHIND
        return await self._in_order(sequence, plan, view, follows=follows)

    async def _in_order(
        self, sequence: str, plan: HandlerPlan, view: SequenceView, *, follows: bool
    ) -> Job | None:
        found = walk(sequence, view.cursor, view.closings, _rules(plan, view))
        if plan.whole:
            return await self._whole(sequence, plan, view, found)
        if found.failure is not None and not found.items:
            return self._ended(sequence, view, found, _why_failed(found.failure))
        if not found.items and not found.dropped and not found.cursor.is_finished:
            return self._job(sequence, view, found, None)
        if follows and plan.age_s and view.sealed is None and len(found.items) < plan.size:
            # What the run before gave is in; this one may wait for more parts from now on.
            return self._job(sequence, view, replace(found, cursor=view.cursor, items=()), None)
        sealed = await self._sealed(sequence, plan, view, found)
        if sealed is None:
            return None
        return self._job(sequence, view, sealed, self._run(sequence, view, sealed))

    async def _heap(self, sequence: str, plan: HandlerPlan) -> Job | None:
        """Read the next run of a sequence whose parts are taken as they come."""
        scoop = await heaping.scooped(self._runtime.store, sequence, plan)
        if scoop is None:
            return None
        view, found = scoop.view, scoop.found
        if found.failure is not None:
            return self._ended(sequence, view, found, _why_failed(found.failure), view.runs)
        run = None
        if not scoop.is_empty:
            run = self._run(sequence, view, found, heaping.run_id(sequence, view))
        return self._job(
            sequence, view, found, run, release=heaping.release_of(sequence, scoop)
        )

    async def _sealed(
        self, sequence: str, plan: HandlerPlan, view: SequenceView, found: Walk
    ) -> Walk | None:
        """Fix the run's end and what is missing in it, so that another attempt gets the same.

        What came between reading and sealing counts; a split among it may miss parts in turn.

        Returns:
            The run, or None when the sequence was moved on meanwhile: what was read may not
            be what another attempt was given under the same `run.id`.
        """
        store, before = self._runtime.store, view.cursor.next
        while True:
            end = found.cursor.next
            sealed = await store.seal(sequence, before, end, found.missing)
            if sealed is None:
                return None
            if sealed == end and not found.missing:
                return found
            again = await store.view(sequence, plan.size + SPLITS, whole=False)
            if again is None or not again.is_open or again.cursor != view.cursor:
                return None
            found = walk(sequence, again.cursor, again.closings, _rules(plan, again))
            if not found.missing:
                return found

    async def _whole(
        self, sequence: str, plan: HandlerPlan, view: SequenceView, found: Walk
    ) -> Job | None:
        """Wait until every part is there, then hand over all of them."""
        so_far = view.released + len(found.items)
        if found.failure is not None:
            return self._ended(sequence, view, found, _why_failed(found.failure))
        if so_far > MAX_WHOLE:
            why = f"{plan.name} takes a list of at most {MAX_WHOLE} parts; take a Run instead."
            return self._ended(sequence, view, found, why)
        if not found.cursor.is_finished:
            return self._job(sequence, view, found, None, keeps_parts=True)
        items: tuple[Closing, ...] | None = found.items
        if view.cursor.next != (0,):
            items = await self._from_the_start(sequence, plan, view)
        if items is None:
            return None
        return self._job(sequence, view, found, [self._part(closing) for closing in items])

    async def _from_the_start(
        self, sequence: str, plan: HandlerPlan, view: SequenceView
    ) -> tuple[Closing, ...] | None:
        """Read every part, those before the cursor too; None when it was moved on meanwhile."""
        if view.cursor.is_finished:
            return ()
        every = await self._runtime.store.view(sequence, MAX_WHOLE * 2, whole=True)
        if every is None or not every.is_open or every.cursor != view.cursor:
            return None
        if every.horizon is not None:
            raise Reject(
                f"{plan.name} takes a list, but its sequence has more than {MAX_WHOLE * 2} "
                "positions. Take a Run instead."
            )
        rules = Rules(on_failed=plan.on_dead, limit=MAX_WHOLE + 1, is_expired=view.is_expired)
        start = Cursor((0,), view.cursor.totals[:1])
        return walk(sequence, start, every.closings, rules).items

    def _run(
        self, sequence: str, view: SequenceView, found: Walk, run_id: str = ""
    ) -> Run[object]:
        return Run(
            [self._part(closing) for closing in found.items],
            id=run_id or derive(sequence, "run", *view.cursor.next),
            source_id=view.source.id,
            offset=view.released,
            is_last=found.cursor.is_finished,
            dropped=found.dropped,
        )

    def _part(self, closing: Closing) -> object:
        if closing.by is ClosedBy.FAILED:
            return Hole(
                reason="dead-letter" if closing.dead_letter else "deadline",
                detail=closing.detail,
                dead_letter_id=closing.dead_letter or None,
            )
        return self._runtime.codec.decode(
            closing.type, closing.type_version, closing.codec, closing.body
        )

    def _job(
        self,
        sequence: str,
        view: SequenceView,
        found: Walk,
        parts: object | None,
        *,
        keeps_parts: bool = False,
        release: Release | None = None,
    ) -> Job:
        source = None if parts is None or view.is_stream else self._source(view)
        has_moved = found.cursor.next != view.cursor.next
        return Job(
            release=release
            or Release(
                sequence=sequence,
                before=view.cursor.next,
                after=found.cursor,
                released=len(found.items),
                emitted=view.emitted,
                keeps_parts=keeps_parts,
                more=has_moved and found.cursor.next in view.closings,
            ),
            parts=parts,
            source=source,
            run_id=parts.id
            if isinstance(parts, Run)
            else derive(sequence, "run", *view.cursor.next),
            emitted=view.emitted,
            is_last=found.cursor.is_finished,
            is_stream=view.is_stream,
            paths=[closing.path for closing in found.items],
        )

    def _source(self, view: SequenceView) -> object:
        """Read the message that was split; what was called by time had none."""
        head = decode_head(view.source.head)
        if head.kind is Kind.FIRING:
            return None
        try:
            return self._runtime.codec.decode(
                head.type, head.type_version, head.codec, view.source.body
            )
        except UnknownType as error:
            raise CodecError(f"The message that was split cannot be read: {error}") from error

    def _ended(
        self,
        sequence: str,
        view: SequenceView,
        found: Walk,
        why: str,
        run: int | None = None,
    ) -> Job:
        return Job(
            release=Release(
                sequence=sequence,
                before=view.cursor.next,
                after=found.cursor,
                released=0,
                emitted=view.emitted,
                is_failed=True,
                run=run,
            ),
            parts=None,
            source=None,
            run_id="",
            emitted=view.emitted,
            is_last=True,
            failed=why,
            split=view,
        )

    def add_failure(self, job: Job, step: Step) -> None:
        """Add what it means that a sequence ends as failed: its split is a dead letter."""
        if job.split is None:
            return
        source = job.split.source
        head = decode_head(source.head)
        dead = DeadLetterRow(
            id=f"{source.id}-{source.generation}",
            packet=source,
            handler=handler_of(source, head),
            type=head.type,
            reason=job.failed,
        )
        park_in(self._runtime, step, dead, head)
        fail_behind(self._runtime, step, head, job.emitted)


def _rules(plan: HandlerPlan, view: SequenceView) -> Rules:
    return Rules(
        on_failed=plan.on_dead,
        limit=plan.size,
        until=view.sealed,
        horizon=view.horizon,
        is_expired=view.is_expired,
    )


def _why_failed(closing: Closing) -> str:
    where = ".".join(str(index) for index in closing.path)
    return f"part {where} did not come: {closing.detail}"
