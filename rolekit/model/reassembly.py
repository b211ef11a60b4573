"""Parts in any order, with any repeats, to runs in order, once.

A sequence is a tree of positions. Each closes once: by a part, by being dropped, by a
failure, or by a split into children whose number is known now or later. A cursor walks the
leaves in order and never goes back.

Source: DESIGN 4, "Order (a)".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

import msgspec

from rolekit.model.position import Path

if TYPE_CHECKING:
    from collections.abc import Mapping


class ClosedBy(IntEnum):
    """What closed a position."""

    PART = 0
    DROPPED = 1
    FAILED = 2
    SPLIT = 3


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """What closed one position of a sequence.

    Attributes:
        sequence: Id of the sequence.
        path: The position.
        by: What closed it.
        total: Of a split: its number of children; None while it goes on.
        type: Of a part: wire name.
        type_version: Of a part.
        codec: Of a part: how the body is encoded.
        body: Of a part.
        detail: Of a failure: why, for people.
        dead_letter: Of a failure: id of the dead letter, or empty when time ran out.
    """

    sequence: str
    path: Path
    by: ClosedBy
    total: int | None = None
    type: str = ""
    type_version: int = 1
    codec: str = "json"
    body: bytes = b""
    detail: str = ""
    dead_letter: str = ""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a sequence has been released.

    Attributes:
        next: The first position not released yet; empty when all are.
        totals: Number of siblings at each level of `next`, None where not known yet.
    """

    next: Path
    totals: tuple[int | None, ...]

    @staticmethod
    def start(total: int | None) -> Cursor:
        """Stand before the first part of a split into `total` parts."""
        return Cursor((0,), (total,)).climbed()

    @property
    def is_finished(self) -> bool:
        """Whether every position was released."""
        return not self.next

    def climbed(self, until: Path | None = None) -> Cursor:
        """Leave every level whose last sibling was released; go no further than `until`."""
        path, totals = self.next, self.totals
        while path and path != until:
            total = totals[-1]
            if total is None or path[-1] < total:
                break
            path, totals = _bump(path[:-1]), totals[:-1]
        return Cursor(path, totals)

    def bumped(self) -> Cursor:
        """Step to the next sibling."""
        return Cursor(_bump(self.next), self.totals)

    def entered(self, total: int | None) -> Cursor:
        """Step into the children of the position it stands at."""
        return Cursor((*self.next, 0), (*self.totals, total))

    def ended(self, total: int) -> Cursor:
        """Learn how many siblings there are at the innermost level."""
        return Cursor(self.next, (*self.totals[:-1], total))

    def stopped(self) -> Cursor:
        """Stand at the end of a sealed run, as it was when it was sealed.

        A total that was learned since is forgotten: the cursor then waits for the end of the
        split, which is what a store looks for behind a run.
        """
        if self.is_finished or self.totals[-1] is None or self.next[-1] < self.totals[-1]:
            return self
        return Cursor(self.next, (*self.totals[:-1], None))

    def open_ancestors(self) -> list[Path]:
        """Return the splits above `next` whose number of children is not known."""
        return [self.next[:i] for i, total in enumerate(self.totals) if total is None]


def _bump(path: Path) -> Path:
    return (*path[:-1], path[-1] + 1) if path else ()


def is_awaited(cursor: Cursor, closing: Closing, *, waits: bool) -> bool:
    """Say whether a closing lets the cursor move.

    Args:
        cursor: Of the sequence, read under its lock.
        closing: Stored already.
        waits: Whether a failure holds the sequence up, for a replay to fill the hole.
    """
    if closing.by is ClosedBy.FAILED and waits:
        return False
    if closing.path == cursor.next:
        return not cursor.is_finished
    ends_here = closing.path == cursor.next[:-1] and cursor.totals[-1:] == (None,)
    return ends_here and closing.total is not None and cursor.next[-1] >= closing.total


@dataclass(frozen=True, slots=True)
class Walk:
    """A run of parts, and where the cursor stands behind it.

    Attributes:
        items: Parts, and failures that are handed over as holes, in order.
        dropped: Positions passed that hold nothing.
        cursor: Behind the run.
        failure: What the sequence fails by, where its policy is to fail.
        missing: What was taken as failed, or as ended, since time is up. Stored when the run
            is sealed, so that it stays so.
    """

    items: tuple[Closing, ...]
    dropped: int
    cursor: Cursor
    failure: Closing | None = None
    missing: tuple[Closing, ...] = ()


OnFailed = Literal["wait", "skip", "fail", "hole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a walk treats what is not there.

    Attributes:
        on_failed: What a failure does: hold the run up, be skipped, fail the sequence, or
            stand in the run as a hole.
        limit: Items in a run, at most.
        until: Where a sealed run ends; None seals nothing.
        horizon: The last path that was read, where there may be more; None: all was read.
        is_expired: Time is up: what is missing counts as failed.
    """

    on_failed: OnFailed = "wait"
    limit: int = 1000
    until: Path | None = None
    horizon: Path | None = None
    is_expired: bool = False


def walk(sequence: str, cursor: Cursor, closings: Mapping[Path, Closing], rules: Rules) -> Walk:
    """Take the next parts in order, up to the first hole.

    Args:
        sequence: Its id.
        cursor: Where to begin.
        closings: By path; those from the cursor on, and the open splits above it.
        rules: What to do with holes, and where to stop.

    Returns:
        The run. Walking again from its cursor continues it; nothing comes twice.
    """
    walker = _Walker(sequence, cursor, closings, rules)
    while walker.step():
        pass
    return walker.walked()


class _Walker:
    """A walk under way."""

    def __init__(
        self, sequence: str, cursor: Cursor, closings: Mapping[Path, Closing], rules: Rules
    ) -> None:
        self._sequence = sequence
        self._closings = closings
        self._rules = rules
        self.cursor = cursor
        self.items: list[Closing] = []
        self.dropped = 0
        self.failure: Closing | None = None
        self.missing: list[Closing] = []
        self._ends = _last_indexes(closings) if rules.is_expired else {}

    def walked(self) -> Walk:
        """Return the run so far."""
        cursor = self.cursor.stopped()
        return Walk(tuple(self.items), self.dropped, cursor, self.failure, tuple(self.missing))

    def step(self) -> bool:
        """Pass one position, or learn where its level ends; False where the run ends."""
        self.cursor = self.cursor.climbed(self._rules.until)
        at = self.cursor.next
        if self.cursor.is_finished or at == self._rules.until:
            return False
        if max(len(self.items), len(self.missing)) >= self._rules.limit:
            return False
        # The end first: once a split has ended early, what came behind its end counts no more.
        if self._learn_total():
            return True
        closing = self._closings.get(at) or self._give_up()
        return closing is not None and self._pass(closing)

    def _learn_total(self) -> bool:
        """End a level whose split has ended meanwhile."""
        if self.cursor.totals[-1] is not None:
            return False
        parent = self._closings.get(self.cursor.next[:-1])
        if parent is None or parent.total is None:
            return False
        self.cursor = self.cursor.ended(parent.total)
        return True

    def _give_up(self) -> Closing | None:
        """Make a failure of a missing part whose time is up; the last one ends its split."""
        at, horizon = self.cursor.next, self._rules.horizon
        if not self._rules.is_expired or (horizon is not None and at > horizon):
            return None
        failed = _missing(self._sequence, at)
        self.missing.append(failed)
        if self.cursor.totals[-1] is None and not self._goes_on(at):
            self.cursor = self.cursor.ended(at[-1] + 1)
            self.missing.append(_ended(self._sequence, self.cursor))
        return failed

    def _goes_on(self, at: Path) -> bool:
        """Say whether a later sibling came, or may stand behind what was read."""
        level, horizon = at[:-1], self._rules.horizon
        if horizon is not None and horizon[: len(level)] == level:
            return True
        return self._ends.get(level, 0) > at[-1]

    def _pass(self, closing: Closing) -> bool:
        if closing.by is ClosedBy.SPLIT:
            self.cursor = self.cursor.entered(closing.total)
            return True
        policy = self._rules.on_failed
        if closing.by is ClosedBy.FAILED and policy in {"fail", "wait"}:
            self.failure = closing if policy == "fail" else None
            return False
        if closing.by is ClosedBy.DROPPED or (
            closing.by is ClosedBy.FAILED and policy == "skip"
        ):
            self.dropped += 1
        else:
            self.items.append(closing)
        self.cursor = self.cursor.bumped()
        return True


def _missing(sequence: str, path: Path) -> Closing:
    """Stand in for a part that did not come before the deadline."""
    return Closing(
        sequence=sequence,
        path=path,
        by=ClosedBy.FAILED,
        detail="did not come before the deadline",
    )


def _ended(sequence: str, cursor: Cursor) -> Closing:
    """Stand in for the end of a split that did not come before the deadline."""
    path, total = cursor.next[:-1], cursor.totals[-1]
    return Closing(sequence=sequence, path=path, by=ClosedBy.SPLIT, total=total)


def _last_indexes(closings: Mapping[Path, Closing]) -> dict[Path, int]:
    """Return the highest index that came at each level."""
    last: dict[Path, int] = {}
    for path in closings:
        for depth, index in enumerate(path):
            level = path[:depth]
            last[level] = max(index, last.get(level, 0))
    return last


class Reassembler:
    """One sequence in memory: the reference for what every store does.

    Args:
        sequence: Its id.
        total: Number of parts of the outermost split; None while it is not known.
        on_failed: What a failure does.
    """

    def __init__(
        self, sequence: str, total: int | None = None, *, on_failed: OnFailed = "wait"
    ) -> None:
        self.sequence = sequence
        self.cursor = Cursor.start(total)
        self.on_failed: OnFailed = on_failed
        self._closings: dict[Path, Closing] = {}

    def accept(self, closing: Closing) -> bool:
        """Close a position; the first closing counts, but a part fills a waiting hole.

        Returns:
            Whether a run can be taken now that could not before.
        """
        held = self._closings.get(closing.path)
        if held is not None and not replaces(held, closing, waits=self.on_failed == "wait"):
            return False
        if self.is_late(closing):
            return False
        self._closings[closing.path] = closing
        return is_awaited(self.cursor, closing, waits=self.on_failed == "wait")

    def is_late(self, closing: Closing) -> bool:
        """Whether its position was released already."""
        if self.cursor.is_finished:
            return True
        return (
            closing.path < self.cursor.next and closing.path not in self.cursor.open_ancestors()
        )

    def take(self, limit: int = 1000, *, is_expired: bool = False) -> Walk:
        """Take the next run and move the cursor behind it."""
        rules = Rules(on_failed=self.on_failed, limit=limit, is_expired=is_expired)
        run = walk(self.sequence, self.cursor, self._closings, rules)
        self.cursor = run.cursor
        return run


def replaces(held: Closing, new: Closing, *, waits: bool) -> bool:
    """Say whether a second closing of a position counts: it ends a split, or fills a hole."""
    if held.by is ClosedBy.SPLIT:
        return new.by is ClosedBy.SPLIT and held.total is None and new.total is not None
    return held.by is ClosedBy.FAILED and waits and new.by is not ClosedBy.FAILED
