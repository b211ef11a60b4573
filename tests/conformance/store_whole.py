"""What every store must do with steps that commit only together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import StateClash
from rolekit.store.base import Due, SomeTaken, StateChange, StateKey
from tests.conformance.store import error_of, id_of, letter, packet, sent, step

if TYPE_CHECKING:
    from rolekit.store.base import Step
    from tests.conformance.store import Ground


def batch_of(*numbers: int, is_plain: bool = True) -> list[Step]:
    """Make steps that send their number; a due packet takes the long way."""
    steps = [step(n, outputs=[packet(100 + n)]) for n in numbers]
    if not is_plain:
        steps[0].later = [Due(packet(99), 5000)]
    return steps


@pytest.mark.parametrize("is_plain", [True, False])
class Whole:
    """All of them or none."""

    async def test_fresh_steps_all_happen(self, ground: Ground, *, is_plain: bool) -> None:
        store = await ground.open()

        commit = await store.commit_whole(batch_of(3, 1, 2, is_plain=is_plain))

        assert commit.fresh == {(id_of(n), 0) for n in (1, 2, 3)}
        assert sorted(n for n in sent(commit) if n > 99) == [101, 102, 103]

    async def test_one_that_is_taken_lets_none_happen_and_is_named(
        self, ground: Ground, *, is_plain: bool
    ) -> None:
        store = await ground.open()
        await store.commit([step(2)])

        error = await error_of(store.commit_whole(batch_of(1, 2, 3, is_plain=is_plain)))
        again = await store.commit_whole(batch_of(1, 3, is_plain=is_plain))

        assert isinstance(error, SomeTaken)
        assert error.keys == {(id_of(2), 0)}
        assert again.fresh == {(id_of(1), 0), (id_of(3), 0)}

    async def test_the_same_again_finds_all_taken(
        self, ground: Ground, *, is_plain: bool
    ) -> None:
        store = await ground.open()
        await store.commit_whole(batch_of(1, 2, is_plain=is_plain))

        error = await error_of(store.commit_whole(batch_of(1, 2, is_plain=is_plain)))

        assert isinstance(error, SomeTaken)
        assert error.keys == {(id_of(1), 0), (id_of(2), 0)}

    async def test_of_batches_that_overlap_at_once_each_number_happens_once(
        self, ground: Ground, *, is_plain: bool
    ) -> None:
        one, other = await ground.open(), await ground.open()
        for at in range(0, 100, 5):
            first, second = (at, at + 1, at + 2), (at + 2, at + 3, at + 1)

            errors = await asyncio.gather(
                error_of(one.commit_whole(batch_of(*first, is_plain=is_plain))),
                error_of(other.commit_whole(batch_of(*second, is_plain=is_plain))),
            )

            assert sum(isinstance(error, SomeTaken) for error in errors) == 1

    async def test_a_state_that_changed_lets_none_happen(
        self, ground: Ground, *, is_plain: bool
    ) -> None:
        store = await ground.open()
        steps = batch_of(1, 2, is_plain=is_plain)
        steps[0].states = [StateChange(StateKey("s", "n", "k"), 7, b"x")]

        error = await error_of(store.commit_whole(steps))
        again = await store.commit_whole(batch_of(1, 2, is_plain=is_plain))

        assert isinstance(error, StateClash)
        assert len(again.fresh) == 2

    async def test_one_may_be_a_dead_letter(self, ground: Ground, *, is_plain: bool) -> None:
        store = await ground.open()
        steps = batch_of(1, 2, is_plain=is_plain)
        steps[1].dead = letter(2)

        await store.commit_whole(steps)

        assert await store.count_dead() == {"H.h": 1}
