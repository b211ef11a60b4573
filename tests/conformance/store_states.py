"""States, saved with their step; part of the suite of stores, see `tests.conformance.store`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import StateClash
from rolekit.store.base import Reply, StateChange, StateKey
from tests.conformance.store import (
    SEQUENCE,
    error_of,
    id_of,
    opening,
    packet,
    part,
    release,
    step,
)

if TYPE_CHECKING:
    from rolekit.store.base import Store
    from tests.conformance.store import Ground

WAYS = [
    pytest.param([], id="a plain step"),
    pytest.param([Reply(root=id_of(9), id=id_of(8))], id="a step with more"),
]
"""Postgres takes plain steps in one statement, and others in several."""


class States:
    """Saved with the step, if nobody was faster."""

    KEY = StateKey("scope", "Name", "key")

    async def test_a_state_is_saved_and_its_version_grows(self, ground: Ground) -> None:
        store = await ground.open()

        await store.commit([step(1, states=[StateChange(self.KEY, 0, b"1")])])
        await store.commit([step(2, states=[StateChange(self.KEY, 1, b"2")])])

        other = StateKey("scope", "Name", "other")
        assert await store.load_states([self.KEY, other]) == {self.KEY: (2, b"2")}

    async def test_keys_are_kept_apart_whatever_is_in_them(self, ground: Ground) -> None:
        store = await ground.open()
        names = [
            "",
            " ",
            "NULL",
            "null",
            '"',
            "\\",
            '\\"',
            '","',
            "{a,b}",
            "a\nb\t",
            "ü€😀",
            "'",
        ]
        keys = [StateKey("scope", "Name", name) for name in names]

        await store.commit(
            [step(n, states=[StateChange(key, 0, b"%d" % n)]) for n, key in enumerate(keys, 1)]
        )

        kept = {key: (1, b"%d" % n) for n, key in enumerate(keys, 1)}
        assert await store.load_states(keys) == kept

    async def test_changes_that_follow_each_other_are_folded_in_one_batch(
        self, ground: Ground
    ) -> None:
        store, other = await ground.open(), StateKey("scope", "Name", "other")
        await store.commit([step(1, states=[StateChange(self.KEY, 0, b"1")])])
        changes = [
            [StateChange(self.KEY, 1, b"2"), StateChange(other, 0, b"a")],
            [StateChange(self.KEY, 2, b"3")],
            [StateChange(other, 1, b"b"), StateChange(self.KEY, 3, b"4")],
        ]

        await store.commit([step(n, states=each) for n, each in enumerate(changes, 2)])

        assert await store.load_states([self.KEY, other]) == {
            self.KEY: (4, b"4"),
            other: (2, b"b"),
        }

    async def test_a_change_that_follows_one_of_a_repeat_undoes_the_batch(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, states=[StateChange(self.KEY, 0, b"1")])])
        batch = [
            step(1, states=[StateChange(self.KEY, 1, b"repeat")]),
            step(2, states=[StateChange(self.KEY, 2, b"from what the repeat made")]),
        ]

        error = await error_of(store.commit(batch))

        assert isinstance(error, StateClash)
        assert await store.load_states([self.KEY]) == {self.KEY: (1, b"1")}

    async def test_a_state_that_changed_meanwhile_undoes_the_whole_batch(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, states=[StateChange(self.KEY, 0, b"1")])])
        batch = [
            step(2, outputs=[packet(2)], replies=[Reply(root=id_of(9), id=id_of(8))]),
            step(3, states=[StateChange(self.KEY, 0, b"lost")], opening=opening(1)),
        ]

        error = await error_of(store.commit(batch))
        again = await store.commit([batch[0]])

        assert isinstance(error, StateClash)
        assert again.fresh == {(id_of(2), 0)}
        assert await store.load_states([self.KEY]) == {self.KEY: (1, b"1")}
        assert await store.view(SEQUENCE, 10, whole=False) is None
        assert len(await store.replies({id_of(9): 0}, 10)) == 1

    async def test_of_many_that_change_a_state_at_once_each_counts(
        self, ground: Ground
    ) -> None:
        stores = [await ground.open() for _ in range(3)]

        async def count(store: Store, number: int) -> None:
            while True:
                version, body = (await store.load_states([self.KEY])).get(self.KEY, (0, b"0"))
                change = StateChange(self.KEY, version, str(int(body) + 1).encode())
                if not isinstance(await error_of(store.commit([step(number, states=[change])])),
                                  StateClash):  # fmt: skip
                    return

        await asyncio.gather(*(count(stores[n % 3], n) for n in range(15)))

        assert await stores[0].load_states([self.KEY]) == {self.KEY: (15, b"15")}

    async def test_a_sequence_that_is_over_takes_its_states_along(self, ground: Ground) -> None:
        store = await ground.open()
        own = StateKey(f"sequence:{SEQUENCE}", "Name", SEQUENCE)
        changes = [StateChange(own, 0, b"1"), StateChange(self.KEY, 0, b"1")]
        await store.commit([step(1, opening=opening(1), closings=[part(0)], states=changes)])

        await release(store, 2)

        assert await store.load_states([own, self.KEY]) == {self.KEY: (1, b"1")}


class Tokens:
    """A change says which version it leaves, so that only those who saw it go on from it."""

    KEY = StateKey("scope", "Name", "token")

    @pytest.mark.parametrize("replies", WAYS)
    async def test_a_state_gets_the_version_that_its_change_names(
        self, ground: Ground, replies: list[Reply]
    ) -> None:
        store = await ground.open()
        made = StateChange(self.KEY, 0, b"1", token=7_001)
        saved = StateChange(self.KEY, 7_001, b"2", token=2**61 + 5)

        await store.commit([step(1, states=[made], replies=replies)])
        between = await store.load_states([self.KEY])
        await store.commit([step(2, states=[saved], replies=replies)])

        assert between == {self.KEY: (7_001, b"1")}
        assert await store.load_states([self.KEY]) == {self.KEY: (2**61 + 5, b"2")}

    @pytest.mark.parametrize("replies", WAYS)
    async def test_a_chain_in_one_batch_leaves_the_version_of_its_last_change(
        self, ground: Ground, replies: list[Reply]
    ) -> None:
        store = await ground.open()
        first = StateChange(self.KEY, 0, b"1", token=91)
        second = StateChange(self.KEY, 91, b"2", token=17)
        third = StateChange(self.KEY, 17, b"3", token=55)
        chain = [
            step(n, states=[each], replies=replies)
            for n, each in enumerate((first, second, third), 1)
        ]

        await store.commit(chain)

        assert await store.load_states([self.KEY]) == {self.KEY: (55, b"3")}

    @pytest.mark.parametrize("replies", WAYS)
    async def test_what_went_on_from_a_body_that_was_never_committed_clashes(
        self, ground: Ground, replies: list[Reply]
    ) -> None:
        mine, theirs = await ground.open(), await ground.open()
        lost = StateChange(self.KEY, 0, b"mine", token=101)
        other = StateChange(self.KEY, 0, b"theirs", token=202)
        on_from_lost = StateChange(self.KEY, lost.becomes, b"mine and more", token=303)
        await theirs.commit([step(1, states=[other], replies=replies)])

        errors = [
            await error_of(mine.commit([step(n, states=[change], replies=replies)]))
            for n, change in enumerate((lost, on_from_lost), 2)
        ]

        assert [type(error) for error in errors] == [StateClash, StateClash]
        assert await mine.load_states([self.KEY]) == {self.KEY: (202, b"theirs")}
