"""What every store must do with runs of a sequence: seal them, end them in time, lose none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.errors import StateClash
from rolekit.model.reassembly import ClosedBy, Rules, walk
from rolekit.store.base import Release
from tests.conformance.store import (
    SEQUENCE,
    close,
    failed,
    opening,
    part,
    release,
    release_of,
    step,
    tokens,
    viewed,
)

if TYPE_CHECKING:
    from rolekit.store.base import Commit, Store
    from tests.conformance.store import Ground


class Sealing:
    """The end of a run that was begun stays where it is."""

    async def test_the_first_end_stays(self, ground: Ground) -> None:
        store = await ground.open()
        parts = [part(n) for n in range(4)]
        await store.commit([step(1, opening=opening(9), closings=parts)])

        ends = [await store.seal(SEQUENCE, (0,), end, []) for end in ((2,), (4,), (1,))]

        assert ends == [(2,), (2,), (2,)]
        assert (await viewed(store)).sealed == (2,)

    async def test_a_release_unseals(self, ground: Ground) -> None:
        store = await ground.open()
        parts = [part(n) for n in range(4)]
        await store.commit([step(1, opening=opening(9), closings=parts)])
        await store.seal(SEQUENCE, (0,), (2,), [])

        await store.commit([step(2, release=release_of(await viewed(store)))])

        view = await viewed(store)
        assert (view.cursor.next, view.sealed) == ((2,), None)

    async def test_a_release_of_nothing_leaves_the_run_sealed_that_somebody_is_at(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(9))])
        nothing = release_of(await viewed(store))
        parts = [part(n) for n in range(4)]
        await store.commit([step(2, closings=parts)])
        await store.seal(SEQUENCE, (0,), (2,), [])

        await store.commit([step(3, release=nothing)])

        view = await viewed(store)
        assert (view.cursor.next, view.sealed) == ((0,), (2,))

    async def test_nothing_is_sealed_where_the_cursor_is_elsewhere(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(9), closings=[part(0)])])
        await release(store, 2)

        end = await store.seal(SEQUENCE, (0,), (1,), [failed(0), failed(3)])

        view = await viewed(store)
        assert (end, view.sealed) == (None, None)
        assert list((await viewed(store, whole=True)).closings) == []

    async def test_nothing_is_sealed_of_a_sequence_that_is_over_or_was_never_there(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        unknown = await store.seal(SEQUENCE, (0,), (1,), [])
        await store.commit([step(1, opening=opening(1, waits=False), closings=[part(0)])])
        before = (await viewed(store)).cursor
        end = Release(
            sequence=SEQUENCE, before=before.next, after=before, released=0, is_failed=True
        )
        await store.commit([step(2, release=end)])

        over = await store.seal(SEQUENCE, (0,), (1,), [failed(0)])

        assert (unknown, over) == (None, None)
        assert list((await viewed(store, whole=True)).closings) == []

    async def test_what_is_missing_is_stored_but_a_part_that_came_wins(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2, waits=False), closings=[part(0)])])

        await store.seal(SEQUENCE, (0,), (), [failed(0), failed(1)])

        closings = (await viewed(store)).closings
        assert [closings[(0,)].by, closings[(1,)].by] == [ClosedBy.PART, ClosedBy.FAILED]


class Expiring:
    """Deadlines of sequences."""

    async def test_a_sequence_whose_time_is_up_is_told_once(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2, waits=False, deadline_ms=1000))])

        early = await store.expire(999, 10)
        due = await store.expire(1000, 10)
        again = await store.expire(2000, 10)

        assert [len(tokens(commit)) for commit in (early, due, again)] == [0, 1, 0]
        assert (await viewed(store)).is_expired

    async def test_a_sequence_that_waits_for_its_holes_has_no_end(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2, deadline_ms=1000))])

        commit = await store.expire(2000, 10)

        assert tokens(commit) == []
        assert not (await viewed(store)).is_expired

    async def test_one_whose_token_is_on_its_way_gets_none_but_goes_on(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        opened = opening(3, waits=False, deadline_ms=1000)
        await store.commit([step(1, opening=opened, closings=[part(0)])])
        moving = release_of(await viewed(store))

        expired = await store.expire(2000, 10)
        moved = await store.commit([step(2, release=moving)])
        _, rest = await release(store, 3, "hole")

        assert (tokens(expired), len(tokens(moved))) == ([], 1)
        assert len(rest) == 2
        assert not (await viewed(store)).is_open

    async def test_one_that_is_over_does_not_expire(self, ground: Ground) -> None:
        store = await ground.open()
        opened = opening(1, waits=False, deadline_ms=1000)
        await store.commit([step(1, opening=opened, closings=[part(0)])])
        await release(store, 2)

        assert tokens(await store.expire(2000, 10)) == []


class Meeting:
    """Storers and releasers at once, in many interleavings."""

    async def test_no_wake_up_is_ever_lost(self, ground: Ground) -> None:
        party = Party([await ground.open() for _ in range(5)], parts=24)
        await party.stores[0].commit([step(1, opening=opening(24))])

        await asyncio.gather(*(party.store_part(n) for n in range(24)), party.release_all())

        assert party.released == [str(n).encode() for n in range(24)]
        assert not (await viewed(party.stores[0])).is_open


class Party:
    """Those who meet: three store, two release what the tokens tell of."""

    def __init__(self, stores: list[Store], parts: int) -> None:
        self.stores = stores
        self.released: list[bytes] = []
        self._missing = parts
        self._tokens: asyncio.Queue[str | None] = asyncio.Queue()
        self._under_way = 0

    async def store_part(self, index: int) -> None:
        await asyncio.sleep(0.002 * (index * 7 % 5))
        self._under_way += 1
        self._told(await close(self.stores[index % 3], 100 + index, part(index)))
        self._missing -= 1
        self._done()

    async def release_all(self) -> None:
        await asyncio.gather(*(self._release(store) for store in self.stores[3:]))

    async def _release(self, store: Store) -> None:
        while (token := await self._tokens.get()) is not None:
            while not await self._try(store, token):
                pass
            self._done()

    async def _try(self, store: Store, token: str) -> bool:
        view = await viewed(store)
        if not view.is_open:
            return True
        items = walk(SEQUENCE, view.cursor, view.closings, Rules()).items
        await asyncio.sleep(0.001)
        try:
            commit = await store.commit([step(int(token, 16), release=release_of(view))])
        except StateClash:
            return False
        if commit.fresh:
            self.released += [item.body for item in items]
        self._told(commit)
        return True

    def _told(self, commit: Commit) -> None:
        for token in tokens(commit):
            self._under_way += 1
            self._tokens.put_nowait(token)

    def _done(self) -> None:
        """End the releasers when nothing is left that could still tell them anything."""
        self._under_way -= 1
        if not self._missing and not self._under_way:
            for _ in self.stores[3:]:
                self._tokens.put_nowait(None)
