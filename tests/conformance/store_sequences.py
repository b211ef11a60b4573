"""What every store must do with sequences."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.errors import StateClash
from rolekit.model.reassembly import ClosedBy, Cursor
from rolekit.store.base import Release
from tests.conformance.store import (
    SEQUENCE,
    close,
    dropped,
    error_of,
    failed,
    id_of,
    now_ms,
    opening,
    packet,
    part,
    release,
    release_of,
    sent,
    split,
    step,
    tokens,
    viewed,
)

if TYPE_CHECKING:
    from tests.conformance.store import Ground


class Sequences:
    """Parts in any order, one token when the cursor can move, releases by compare-and-set."""

    async def test_a_sequence_is_as_it_was_opened(self, ground: Ground) -> None:
        store = await ground.open()
        opened = opening(3)

        commit = await store.commit([step(1, opening=opened)])

        view = await viewed(store)
        assert tokens(commit) == []
        assert (view.gather, view.cursor, view.source) == ("g", opened.cursor, opened.source)
        assert (view.released, view.emitted, view.sealed) == (0, 0, None)
        assert (view.is_open, view.is_expired, view.horizon) == (True, False, None)

    async def test_opening_again_changes_nothing(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3), closings=[part(0)])])
        await release(store, 2)

        await store.commit([step(3, opening=opening(5))])

        assert (await viewed(store)).cursor == Cursor((1,), (3,))

    async def test_a_split_into_nothing_is_ready_at_once(self, ground: Ground) -> None:
        store = await ground.open()

        commit = await store.commit([step(1, opening=opening(0))])

        assert len(tokens(commit)) == 1
        assert (await viewed(store)).cursor.is_finished

    async def test_a_part_is_read_as_it_was_stored(self, ground: Ground) -> None:
        store = await ground.open()
        closings = [part(0), dropped(1), failed(2), split(3, total=2), split(4, total=None)]

        await store.commit([step(1, opening=opening(9), closings=closings)])

        assert dict((await viewed(store)).closings) == {c.path: c for c in closings}

    async def test_only_what_is_awaited_gives_a_token_and_only_one(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(4))])

        counts = [
            len(tokens(await close(store, 10 + n, part(index))))
            for n, index in enumerate([2, 1, 0, 3])
        ]

        assert counts == [0, 0, 1, 0]

    async def test_many_parts_in_one_commit_give_one_token(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(4))])

        commit = await store.commit([step(10 + n, closings=[part(n)]) for n in (3, 0, 1)])

        assert len(tokens(commit)) == 1

    async def test_each_time_a_sequence_becomes_ready_its_token_has_another_id(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3))])
        first = await close(store, 2, part(0))
        await release(store, 3)

        second = await close(store, 4, part(1))

        assert len({*tokens(first), *tokens(second)}) == 2

    async def test_a_release_hands_over_in_order_and_moves_on(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(4))])
        for number, index in enumerate([1, 3, 0]):
            await close(store, 10 + number, part(index))

        commit, items = await release(store, 2)

        view = await viewed(store)
        assert (items, tokens(commit)) == ([b"0", b"1"], [])
        assert (view.cursor, view.released) == (Cursor((2,), (4,)), 2)
        assert list(view.closings) == [(3,)]

    async def test_what_came_during_a_release_gives_a_token_with_it(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3), closings=[part(0)])])
        moving = release_of(await viewed(store))
        during = await close(store, 2, part(1))

        commit = await store.commit([step(3, release=moving)])

        assert tokens(during) == []
        assert len(tokens(commit)) == 1

    async def test_a_release_that_ends_at_its_limit_gives_a_token(self, ground: Ground) -> None:
        store = await ground.open()
        parts = [part(n) for n in range(5)]
        await store.commit([step(1, opening=opening(5), closings=parts)])

        commit, items = await release(store, 2, limit=2)

        assert (items, len(tokens(commit))) == ([b"0", b"1"], 1)

    async def test_a_release_that_came_second_is_lost_with_everything(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3), closings=[part(0)])])
        moving = release_of(await viewed(store))
        await store.commit([step(2, release=moving)])
        late = step(3, release=moving, outputs=[packet(3)])

        error = await error_of(store.commit([late]))
        again = await store.commit([step(3)])

        assert isinstance(error, StateClash)
        assert again.fresh == {(id_of(3), 0)}
        assert (await viewed(store)).released == 1

    async def test_of_two_releases_at_once_one_is_lost(self, ground: Ground) -> None:
        stores = [await ground.open() for _ in range(3)]
        await stores[0].commit([step(1, opening=opening(3), closings=[part(0)])])
        moving = release_of(await viewed(stores[0]))

        errors = await asyncio.gather(
            *(
                error_of(store.commit([step(10 + number, release=moving)]))
                for number, store in enumerate(stores)
            )
        )

        assert sorted(type(error).__name__ for error in errors) == [
            "NoneType", "StateClash", "StateClash",
        ]  # fmt: skip

    async def test_a_finished_sequence_is_over(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2), closings=[part(0), part(1)])])

        await release(store, 2)

        view = await viewed(store)
        assert (view.is_open, view.released, dict(view.closings)) == (False, 2, {})

    async def test_a_failed_sequence_is_over(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2, waits=False), closings=[part(1)])])
        cursor = (await viewed(store)).cursor

        end = Release(sequence=SEQUENCE, before=(0,), after=cursor, released=0, is_failed=True)
        await store.commit([step(2, release=end)])
        late = await close(store, 3, part(0))

        view = await viewed(store)
        assert (view.is_open, dict(view.closings), tokens(late)) == (False, {}, [])

    async def test_late_parts_change_nothing_but_their_steps_stand(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3), closings=[part(0), part(1)])])
        await release(store, 2)

        late = await store.commit([step(3, closings=[part(0)], outputs=[packet(3)])])

        assert (sent(late), tokens(late)) == ([3], [])
        assert list((await viewed(store)).closings) == []

    async def test_parts_may_be_kept_behind_the_cursor(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3), closings=[part(0), part(1)])])
        moving = Release(
            sequence=SEQUENCE, before=(0,), after=Cursor((2,), (3,)), released=2,
            keeps_parts=True, emitted=4,
        )  # fmt: skip

        await store.commit([step(2, release=moving)])

        assert list((await viewed(store)).closings) == []
        assert list((await viewed(store, whole=True)).closings) == [(0,), (1,)]
        assert (await viewed(store)).emitted == 4

    async def test_the_first_closing_of_a_position_counts(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3), closings=[part(0, body=b"first")])])

        for number, again in enumerate([part(0, body=b"second"), dropped(0), failed(0)]):
            await close(store, 10 + number, again)

        assert (await viewed(store)).closings[(0,)].body == b"first"

    async def test_the_first_closing_counts_within_a_batch_too(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3, waits=False))])

        each = [failed(0), part(0), part(1), dropped(1)]
        await store.commit([step(10 + n, closings=[one]) for n, one in enumerate(each)])

        closings = (await viewed(store)).closings
        assert [closings[(0,)].by, closings[(1,)].by] == [ClosedBy.FAILED, ClosedBy.PART]

    async def test_a_failure_holds_up_until_a_part_fills_its_hole(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2))])

        hole = await close(store, 2, failed(0))
        filled = await close(store, 3, part(0))

        assert (len(tokens(hole)), len(tokens(filled))) == (0, 1)
        assert (await viewed(store)).closings[(0,)].by is ClosedBy.PART

    async def test_a_failure_lets_a_sequence_move_that_does_not_wait(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2, waits=False))])

        hole = await close(store, 2, failed(0))
        late = await close(store, 3, part(0))

        assert (len(tokens(hole)), len(tokens(late))) == (1, 0)
        assert (await viewed(store)).closings[(0,)].by is ClosedBy.FAILED

    async def test_a_dropped_position_is_passed(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3))])

        commit = await close(store, 2, dropped(0))
        await close(store, 3, part(1))
        _, items = await release(store, 4)

        assert (len(tokens(commit)), items) == (1, [b"1"])

    async def test_a_split_within_the_sequence_is_walked_in_place(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(3))])
        await close(store, 2, part(0, 1))
        await close(store, 3, part(2))
        await close(store, 4, part(1))

        entered = await close(store, 5, split(0, total=2))
        await release(store, 6)
        first_child = await close(store, 7, part(0, 0))
        _, items = await release(store, 8)

        assert (len(tokens(entered)), len(tokens(first_child))) == (1, 1)
        assert items == [b"0.0", b"0.1", b"1", b"2"]
        assert not (await viewed(store)).is_open

    async def test_a_split_whose_end_comes_later_waits_for_it(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2))])
        await close(store, 2, split(0, total=None))
        await close(store, 3, part(1))
        await release(store, 4)
        await close(store, 5, part(0, 0))
        _, first = await release(store, 6)

        ended = await close(store, 7, split(0, total=1))
        _, rest = await release(store, 8)

        assert (first, len(tokens(ended)), rest) == ([b"0.0"], 1, [b"1"])

    async def test_an_end_that_is_not_reached_yet_gives_no_token(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(1), closings=[split(0, total=None)])])
        await release(store, 2)

        ended = await close(store, 3, split(0, total=2))
        again = await close(store, 4, split(0, total=9))

        assert (tokens(ended), tokens(again)) == ([], [])
        assert (await viewed(store)).closings[(0,)].total == 2

    async def test_a_view_reads_so_many_and_tells_where_it_stopped(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        parts = [part(n) for n in range(5)]
        await store.commit([step(1, opening=opening(9), closings=parts)])

        cut, exact, more = [await viewed(store, limit) for limit in (3, 5, 6)]

        assert (list(cut.closings), cut.horizon) == ([(0,), (1,), (2,)], (2,))
        assert exact.horizon == (4,)
        assert more.horizon is None

    async def test_a_run_that_may_wait_gives_its_token_later(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(9, age_s=30))])
        before_ms = now_ms()

        commit = await close(store, 2, part(0))
        meanwhile = await close(store, 3, part(1))
        due_ms = await store.next_due_ms() or 0
        moved = await store.move_due(due_ms, 10)

        assert (tokens(commit), tokens(meanwhile), len(tokens(moved))) == ([], [], 1)
        assert 29_000 < due_ms - before_ms < 40_000

    async def test_late_and_repeated_parts_are_counted(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(4), closings=[part(0), part(2)])])
        await release(store, 2)

        await close(store, 3, part(0), part(2))
        await close(store, 4, part(2, body=b"another"), part(1))

        (flight,) = await store.flights(10)
        assert (flight.late, flight.repeated, flight.conflicting) == (1, 2, 1)

    async def test_there_is_no_view_of_what_was_never_opened(self, ground: Ground) -> None:
        store = await ground.open()

        assert await store.view(SEQUENCE, 10, whole=False) is None
