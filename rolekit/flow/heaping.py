"""Releasing a heap: take what is there, in any order, seal it, hand it over.

As in `gathering`, the handler runs with no transaction open. Its commit compares the number
of the run instead of the cursor, which stands still while an early part is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolekit.model import heap
from rolekit.model.ids import derive
from rolekit.model.reassembly import Rules, Walk
from rolekit.store.base import Release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.plan import HandlerPlan
    from rolekit.model.position import Path
    from rolekit.model.reassembly import Closing
    from rolekit.store.base import SequenceView, Store


@dataclass(frozen=True, slots=True)
class Scooped:
    """What one run of a heap takes.

    Attributes:
        view: As it was read last.
        found: Parts in it, what was dropped, and where the cursor stands behind it.
        paths: Every position it takes.
    """

    view: SequenceView
    found: Walk
    paths: tuple[Path, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to hand over."""
        found = self.found
        return not found.items and not found.dropped and not found.cursor.is_finished


async def scooped(store: Store, sequence: str, plan: HandlerPlan) -> Scooped | None:
    """Read what there is to take, and fix it, so that another attempt gets the same.

    Returns:
        What the run takes, or None when the sequence is over, or another run has begun.
    """
    while True:
        view = await store.heap(sequence, plan.size)
        if view is None or not view.is_open:
            return None
        if view.is_expired and view.sealed_paths is None:
            gone = _missing(sequence, plan, view)
            if gone:
                if await store.seal_heap(sequence, view.runs, None, gone) is None:
                    return None
                continue
        found = heap.scoop(view.cursor, view.closings, view.taken, plan.on_dead)
        one = Scooped(view, found, tuple(view.closings))
        if found.failure is not None or one.is_empty or view.sealed_paths is not None:
            return one
        sealed = await store.seal_heap(sequence, view.runs, one.paths, [])
        if sealed is None:
            return None
        if sealed == one.paths:
            return one


def _missing(sequence: str, plan: HandlerPlan, view: SequenceView) -> Sequence[Closing]:
    """Return what ran out of time, unless what is there fills a run already."""
    if len(view.closings) >= plan.size:
        return ()
    rules = Rules(on_failed="hole", limit=plan.size, horizon=view.horizon, is_expired=True)
    return heap.missing(sequence, view.cursor, view.closings, view.taken, rules)


def release_of(sequence: str, scoop: Scooped) -> Release:
    """Say how the sequence moves with this run."""
    view, found = scoop.view, scoop.found
    return Release(
        sequence=sequence,
        before=view.cursor.next,
        after=found.cursor,
        released=len(found.items),
        emitted=view.emitted,
        more=view.horizon is not None and not found.cursor.is_finished,
        run=view.runs,
        taken=scoop.paths,
    )


def run_id(sequence: str, view: SequenceView) -> str:
    """Name a run, the same on every attempt."""
    return derive(sequence, "run", "of", view.runs)
