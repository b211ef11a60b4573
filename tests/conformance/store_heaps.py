"""What every store must do with sequences whose parts are taken as they come."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from rolekit.flow.heaping import Scooped, release_of
from rolekit.model import heap
from rolekit.model.reassembly import ClosedBy, Cursor
from tests.conformance.store import (
    SEQUENCE,
    close,
    dropped,
    error_of,
    failed,
    opening,
    part,
    split,
    step,
    tokens,
)
from tests.property.trees import LIVE, Choices, closings, leaves, tree

if TYPE_CHECKING:
    from rolekit.model.position import Path
    from rolekit.model.reassembly import OnFailed
    from rolekit.store.base import Commit, Store
    from tests.conformance.store import Ground


async def scoop(store: Store, limit: int = 1000, on_failed: OnFailed = "wait") -> Scooped:
    view = await store.heap(SEQUENCE, limit)
    assert view is not None
    found = heap.scoop(view.cursor, view.closings, view.taken, on_failed)
    return Scooped(view, found, tuple(view.closings))


async def take(
    store: Store, number: int, limit: int = 1000, on_failed: OnFailed = "wait"
) -> tuple[Commit, list[Path]]:
    """Take what there is; return the commit, and what was handed over."""
    one = await scoop(store, limit, on_failed)
    commit = await store.commit([step(number, release=release_of(SEQUENCE, one))])
    return commit, [item.path for item in one.found.items]


class Heaps:
    """Each part once, in any order; the end when all of it came."""

    async def test_what_comes_is_taken_though_an_early_part_is_missing(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(4, is_ordered=False))])

        told = await close(store, 2, part(3))
        again = await close(store, 3, part(1))
        _, items = await take(store, 4)
        cursor = (await scoop(store)).view.cursor

        assert (len(tokens(told)), len(tokens(again))) == (1, 0)
        assert (items, cursor) == ([(1,), (3,)], Cursor((0,), (4,)))

    async def test_it_is_over_when_the_last_one_was_taken(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3, is_ordered=False))])
        await close(store, 2, part(2), part(1))
        await take(store, 3)

        last = await close(store, 4, part(0))
        one = await scoop(store)
        await take(store, 5)
        view = (await scoop(store)).view

        assert (len(tokens(last)), one.found.cursor.is_finished) == (1, True)
        assert (view.is_open, view.released, dict(view.taken)) == (False, 3, {})

    async def test_a_repeat_of_what_was_taken_counts_for_nothing(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(4, is_ordered=False))])
        await close(store, 2, part(0), part(2))
        await take(store, 3)

        again = [await close(store, 10 + n, part(n)) for n in (0, 2)]
        other = await close(store, 20, dropped(2))

        assert [tokens(commit) for commit in (*again, other)] == [[], [], []]
        assert dict((await scoop(store)).view.closings) == {}

    async def test_what_came_during_a_release_gives_a_token_with_it(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(4, is_ordered=False))])
        await close(store, 2, part(3))
        one = await scoop(store)
        during = await close(store, 3, part(1))

        commit = await store.commit([step(4, release=release_of(SEQUENCE, one))])

        assert (tokens(during), len(tokens(commit))) == ([], 1)

    async def test_of_two_releases_one_is_lost_though_the_cursor_stood_still(
        self, ground: Ground
    ) -> None:
        stores = [await ground.open() for _ in range(3)]
        await stores[0].commit([step(1, opening=opening(4, is_ordered=False))])
        await close(stores[0], 2, part(3))
        moving = release_of(SEQUENCE, await scoop(stores[0]))

        errors = await asyncio.gather(
            *(
                error_of(store.commit([step(10 + number, release=moving)]))
                for number, store in enumerate(stores)
            )
        )

        assert sorted(type(error).__name__ for error in errors) == [
            "NoneType", "StateClash", "StateClash",
        ]  # fmt: skip
        assert (await scoop(stores[0])).view.released == 1

    async def test_so_many_at_a_time_and_a_token_for_the_rest(self, ground: Ground) -> None:
        store = await ground.open()
        parts = [part(n) for n in range(1, 6)]
        await store.commit([step(1, opening=opening(6, is_ordered=False), closings=parts)])

        commit, items = await take(store, 2, limit=2)
        _, more = await take(store, 3, limit=2)

        assert (len(tokens(commit)), items, more) == (1, [(1,), (2,)], [(3,), (4,)])

    async def test_a_failure_waits_for_a_part_to_fill_its_hole(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2, is_ordered=False))])

        hole = await close(store, 2, failed(0))
        other = await close(store, 3, part(1))
        _, items = await take(store, 4)
        filled = await close(store, 5, part(0))
        _, rest = await take(store, 6)

        assert [len(tokens(commit)) for commit in (hole, other, filled)] == [0, 1, 1]
        assert (items, rest) == ([(1,)], [(0,)])
        assert not (await scoop(store)).view.is_open

    async def test_a_failure_is_taken_as_a_hole_where_none_is_waited_for(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2, is_ordered=False, waits=False))])

        hole = await close(store, 2, failed(1))
        _, items = await take(store, 3, on_failed="hole")
        late = await close(store, 4, part(1))

        assert (len(tokens(hole)), items, tokens(late)) == (1, [(1,)], [])

    async def test_a_split_that_goes_on_may_end_after_its_children_were_taken(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2, is_ordered=False))])
        await close(store, 2, split(0, total=None), part(0, 1), part(1))
        await take(store, 3)
        await close(store, 4, part(0, 0))
        await take(store, 5)

        ended = await close(store, 6, split(0, total=2))
        again = await close(store, 7, split(0, total=3))
        await take(store, 8)

        assert (len(tokens(ended)), tokens(again)) == (1, [])
        assert not (await scoop(store)).view.is_open

    async def test_a_sealed_run_is_the_same_for_every_attempt(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(9, is_ordered=False))])
        await close(store, 2, part(2), part(5))

        first = await store.seal_heap(SEQUENCE, 0, [(2,), (5,)], [])
        await close(store, 3, part(1))
        second = await store.seal_heap(SEQUENCE, 0, [(1,), (2,), (5,)], [])
        _, items = await take(store, 4)
        later = await store.seal_heap(SEQUENCE, 0, [(1,)], [])

        assert (first, second, items) == (((2,), (5,)), ((2,), (5,)), [(2,), (5,)])
        assert later is None
        assert (await scoop(store)).view.sealed_paths is None

    async def test_what_is_missing_is_stored_but_nothing_that_was_taken(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3, is_ordered=False, waits=False))])
        await close(store, 2, part(1))
        await take(store, 3)

        old = await store.seal_heap(SEQUENCE, 0, None, [failed(0), failed(1)])
        now = await store.seal_heap(SEQUENCE, 1, None, [failed(0), failed(2)])

        assert (old, now) == (None, ())
        assert list((await scoop(store)).view.closings) == [(0,), (2,)]

    async def test_any_tree_in_any_order_comes_out_once(self, ground: Ground) -> None:
        store = await ground.open()
        numbers = itertools.count(1000)
        for seed in range(6):
            chance = random.Random(seed)  # noqa: S311 - a test
            root = tree(Choices(chance.randbytes(64)), LIVE)
            sequence = f"{seed + 1:032x}"
            made = opening(None if root.is_open else len(root.children), is_ordered=False)
            await store.commit([step(next(numbers), opening=replace(made, id=sequence))])
            found: list[Path] = []
            gone = 0
            for arrived in Choices(chance.randbytes(64)).shuffled(list(closings(root))):
                one = msgspec.structs.replace(arrived, sequence=sequence)
                await store.commit([step(next(numbers), closings=[one])])
                if chance.random() < 0.4:
                    items, lost = await _taken(store, sequence, next(numbers), chance)
                    found += items
                    gone += lost
            while (view := await store.heap(sequence, 10)) and view.is_open:
                items, lost = await _taken(store, sequence, next(numbers), chance)
                found += items
                gone += lost

            whole = list(leaves(root))
            assert sorted(found) == [path for path, by in whole if by is ClosedBy.PART]
            assert gone == sum(by is ClosedBy.DROPPED for _, by in whole)


async def _taken(
    store: Store, sequence: str, number: int, chance: random.Random
) -> tuple[list[Path], int]:
    """Take some of a heap, if it is not over."""
    view = await store.heap(sequence, chance.randint(1, 4))
    assert view is not None
    if not view.is_open:
        return [], 0
    found = heap.scoop(view.cursor, view.closings, view.taken, "wait")
    one = Scooped(view, found, tuple(view.closings))
    await store.commit([step(number, release=release_of(sequence, one))])
    return [item.path for item in found.items], found.dropped
