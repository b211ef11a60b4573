"""The laws of reassembly: any tree, in any order, comes out whole, in order and once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.model.reassembly import (
    ClosedBy,
    Closing,
    Cursor,
    OnFailed,
    Reassembler,
    Rules,
    Walk,
    replaces,
    walk,
)
from tests.property.trees import (
    ALL,
    DATA,
    ENDS,
    LIVE,
    SEQUENCE,
    Case,
    Choices,
    Node,
    cases,
    closing,
    closings,
    leaves,
    reassembler,
    released,
    seen,
)

if TYPE_CHECKING:
    from rolekit.model.position import Path

pytestmark = pytest.mark.timeout(60)

Halves = tuple[Node, list[Closing], list[Closing]]
POLICIES = st.sampled_from(ALL)
ENDING: tuple[OnFailed, ...] = ("skip", "fail", "hole")
LIMITS = st.lists(st.integers(0, 3), max_size=8)
"""How much is taken after each arrival: nothing, or up to so many parts."""


def drained(sequence: Reassembler, limit: int = 1000) -> list[Walk]:
    """Take until nothing moves any more."""
    runs: list[Walk] = []
    while True:
        before = sequence.cursor.next
        run = sequence.take(limit)
        runs.append(run)
        if sequence.cursor.next == before:
            return runs


@given(cases(), POLICIES, LIMITS)
def test_any_order_with_repeats_comes_out_whole_in_order_and_once(
    case: Case, on_failed: OnFailed, limits: list[int]
) -> None:
    root, order = case
    sequence = reassembler(root, on_failed)
    runs: list[Walk] = []

    for index, arrived in enumerate(order):
        sequence.accept(arrived)
        if limits and (limit := limits[index % len(limits)]):
            runs.append(sequence.take(limit))
            assert len(runs[-1].items) <= limit
    runs += drained(sequence, limit=2)

    assert seen(runs) == released(leaves(root), on_failed)


def available(
    root: Node, held: dict[Path, Closing]
) -> tuple[list[tuple[Path, ClosedBy]], bool]:
    """List the leaves in order up to the first one that nothing has closed."""
    found: list[tuple[Path, ClosedBy]] = []

    def enter(node: Node, path: Path) -> bool:
        mark = held.get(path)
        if node.by is not ClosedBy.SPLIT:
            if mark is not None:
                found.append((path, node.by))
            return mark is not None
        is_root = not path
        if mark is None and not is_root:
            return False
        if not all(enter(child, (*path, i)) for i, child in enumerate(node.children)):
            return False
        return (is_root and not root.is_open) or (mark is not None and mark.total is not None)

    is_whole = enter(root, ())
    return found, is_whole


@given(cases(), POLICIES)
def test_what_is_released_is_always_the_longest_prefix_that_is_there(
    case: Case, on_failed: OnFailed
) -> None:
    root, order = case
    sequence = reassembler(root, on_failed)
    held: dict[Path, Closing] = {}
    runs: list[Walk] = []

    for arrived in order:
        sequence.accept(arrived)
        runs.append(sequence.take())

        if arrived.path not in held or replaces(held[arrived.path], arrived, waits=False):
            held[arrived.path] = arrived
        there, is_whole = available(root, held)
        expected = released(there, on_failed)
        stops = expected.failed_at is not None or not expected.is_finished
        assert seen(runs) == replace(expected, is_finished=is_whole and not stops)


@given(cases(ENDS), DATA, st.sampled_from(ENDING))
def test_where_nothing_waits_the_first_closing_of_a_position_counts(
    case: Case, data: bytes, on_failed: OnFailed
) -> None:
    root, order = case
    choices = Choices(data)
    contrary = [
        closing(path, ENDS[choices.below(3)]) for path, _ in leaves(root) if choices.below(2)
    ]
    sequence = reassembler(root, on_failed)
    first: dict[Path, ClosedBy] = {}

    for arrived in choices.shuffled(order + contrary):
        sequence.accept(arrived)
        first.setdefault(arrived.path, arrived.by)
    runs = drained(sequence)

    whole = [(path, first[path]) for path, _ in leaves(root)]
    assert seen(runs) == released(whole, on_failed)


@given(cases(), POLICIES, LIMITS)
def test_a_closing_is_awaited_exactly_when_it_lets_the_cursor_move(
    case: Case, on_failed: OnFailed, limits: list[int]
) -> None:
    root, order = case
    sequence = reassembler(root, on_failed)

    for index, arrived in enumerate(order):
        could = can_move(sequence)
        is_awaited = sequence.accept(arrived)

        # A second closing of what it waits for is told again; that does no harm.
        assert is_awaited == can_move(sequence) if not could else can_move(sequence)
        if limits and (limit := limits[index % len(limits)]):
            sequence.take(limit)


def can_move(sequence: Reassembler) -> bool:
    """Try what a release would do."""
    before = sequence.cursor
    run = sequence.take()
    sequence.cursor = before
    return run.cursor.next != before.next or run.failure is not None


@given(cases(LIVE), DATA, LIMITS)
def test_a_part_fills_a_hole_that_waits_and_a_failure_never_replaces_a_part(
    case: Case, data: bytes, limits: list[int]
) -> None:
    root, order = case
    sequence = reassembler(root, "wait")
    paths = [path for path, _ in leaves(root)]
    choices = Choices(data)
    failures = [closing(path, ClosedBy.FAILED) for path in paths if choices.below(2)]
    runs: list[Walk] = []

    for index, arrived in enumerate(choices.shuffled(order + failures)):
        sequence.accept(arrived)
        if limits and limits[index % len(limits)]:
            runs.append(sequence.take(limits[index % len(limits)]))
    runs += drained(sequence)

    assert seen(runs) == released(leaves(root), "wait")


def halves() -> st.SearchStrategy[Halves]:
    """Draw a tree, what came of it so far, and what comes later."""

    def cut(case: Case, at: int) -> Halves:
        root, order = case
        return root, order[:at], order[at:]

    return st.builds(cut, cases(), st.integers(0, 20))


@given(halves(), st.sampled_from(ENDING), st.integers(1, 4))
def test_a_sequence_whose_time_is_up_ends_with_every_part_that_came(
    case: Halves, on_failed: OnFailed, limit: int
) -> None:
    root, came, _ = case
    sequence = reassembler(root, on_failed)
    for arrived in came:
        sequence.accept(arrived)
    there = set(reachable(root, {c.path for c in came if c.by is ClosedBy.SPLIT}))
    parts = sorted({c.path for c in came if c.by is ClosedBy.PART} & there)

    runs: list[Walk] = []
    while not sequence.cursor.is_finished and not (runs and runs[-1].failure):
        runs.append(sequence.take(limit, is_expired=True))
        assert len(runs) <= 100

    bodies = [item.path for run in runs for item in run.items if item.by is ClosedBy.PART]
    if on_failed == "fail":
        assert bodies == parts[: len(bodies)]
    else:
        assert bodies == parts


def reachable(node: Node, splits: set[Path], path: Path = ()) -> list[Path]:
    """List the leaves whose splits are all known."""
    if node.by is not ClosedBy.SPLIT:
        return [path]
    if path and path not in splits:
        return []
    below = [reachable(c, splits, (*path, i)) for i, c in enumerate(node.children)]
    return [each for some in below for each in some]


@given(halves(), POLICIES, st.integers(1, 5))
def test_a_sealed_run_is_the_same_whatever_came_since(
    case: Halves, on_failed: OnFailed, limit: int
) -> None:
    root, came, later = case
    start = reassembler(root, on_failed).cursor
    first = walk(SEQUENCE, start, stored(came), Rules(on_failed=on_failed, limit=limit))

    sealed = Rules(on_failed=on_failed, limit=limit, until=first.cursor.next)
    again = walk(SEQUENCE, start, stored(came + later), sealed)

    assert (again.items, again.dropped) == (first.items, first.dropped)
    assert again.cursor.is_finished == first.cursor.is_finished
    assert again.cursor.next == first.cursor.next


@given(halves(), POLICIES)
def test_behind_a_sealed_run_nothing_is_missed(case: Halves, on_failed: OnFailed) -> None:
    root, came, later = case
    sequence = reassembler(root, on_failed)
    first = walk(SEQUENCE, sequence.cursor, stored(came), Rules(on_failed=on_failed))
    sealed = Rules(on_failed=on_failed, until=first.cursor.next)
    now, rest = later[::2], later[1::2]
    again = walk(SEQUENCE, sequence.cursor, stored(came + now), sealed)

    # What a store does behind a release: look what the cursor waits for, then at each arrival.
    sequence.cursor = again.cursor
    runs = [again]
    awaited = [sequence.accept(arrived) for arrived in stored(came + now).values()]
    if any(awaited) and again.failure is None:
        runs += drained(sequence)
    for arrived in rest:
        if sequence.accept(arrived):
            runs += drained(sequence)

    assert seen(runs) == released(leaves(root), on_failed)


def stored(order: list[Closing]) -> dict[Path, Closing]:
    """Keep what counts of some closings."""
    held: dict[Path, Closing] = {}
    for arrived in order:
        if arrived.path not in held or replaces(held[arrived.path], arrived, waits=False):
            held[arrived.path] = arrived
    return held


@given(case=halves(), on_failed=POLICIES, size=st.integers(1, 4), is_expired=st.booleans())
def test_reading_a_sequence_slice_by_slice_gives_what_reading_it_whole_gives(
    case: Halves, on_failed: OnFailed, size: int, *, is_expired: bool
) -> None:
    root, came, _ = case
    held = stored(came)
    cursor = reassembler(root, on_failed).cursor
    rules = Rules(on_failed=on_failed, is_expired=is_expired)
    whole = walk(SEQUENCE, cursor, held, rules)

    runs: list[Walk] = []
    while True:
        ahead = sorted(path for path in held if path >= cursor.next)
        above = [path for path in cursor.open_ancestors() if path in held]
        read = {path: held[path] for path in [*above, *ahead[:size]]}
        horizon = ahead[size - 1] if len(ahead) > size else None
        runs.append(walk(SEQUENCE, cursor, read, replace(rules, horizon=horizon)))
        if runs[-1].cursor.next == cursor.next or runs[-1].failure:
            break
        cursor = runs[-1].cursor

    if is_expired and not all(is_rooted(path, held) for path in held):
        # A child that is there before its split: no pipeline commits them so. How many
        # positions count as missing then depends on how much was read; no part is lost.
        assert on_failed in {"wait", "fail"} or parts_of(runs) == parts_of([whole])
    else:
        assert seen(runs) == seen([whole])


def parts_of(runs: list[Walk]) -> list[Path]:
    """List the parts of some runs, holes left out."""
    return [item.path for run in runs for item in run.items if item.by is ClosedBy.PART]


def test_a_split_that_was_ended_early_takes_nothing_behind_its_end() -> None:
    # Sealed so when time was up: one hole, then the end. A part comes before the next attempt.
    held = stored(
        [
            closing((0,), ClosedBy.FAILED),
            closing((), ClosedBy.SPLIT, 1),
            closing((1,), ClosedBy.PART),
        ]
    )

    run = walk(SEQUENCE, Cursor.start(None), held, Rules(on_failed="hole", is_expired=True))

    assert [item.path for item in run.items] == [(0,)]
    assert run.cursor.is_finished


def test_what_stands_behind_the_part_that_was_read_is_not_given_up_with_a_missing_one() -> None:
    # Only (0, 0) was read; (0,) is missing, and whether its level goes on is not known.
    child = closing((0, 0), ClosedBy.PART)
    rules = Rules(on_failed="skip", is_expired=True, horizon=(0, 0))

    run = walk(SEQUENCE, Cursor.start(None), {(0, 0): child}, rules)

    assert run.cursor == Cursor((1,), (None,))


def is_rooted(path: Path, held: dict[Path, Closing]) -> bool:
    """Whether every split above a position is there."""
    return all(path[:depth] in held for depth in range(1, len(path)))


@given(cases())
def test_a_sequence_that_is_over_takes_nothing_any_more(case: Case) -> None:
    root, _ = case
    sequence = reassembler(root, "skip")
    for arrived in closings(root):
        sequence.accept(arrived)
    drained(sequence)

    late = [sequence.accept(arrived) for arrived in closings(root)]

    assert not any(late)
    assert sequence.take() == Walk((), 0, Cursor((), ()))
