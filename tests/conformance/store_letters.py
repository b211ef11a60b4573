"""What every store must do with dead letters, for operators and for handlers that are told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rolekit.model.envelope import Attempts, Head, decode_head, encode_head
from rolekit.model.position import Frame
from rolekit.store.base import DeadLetterRow, Letters, Taken
from tests.conformance.store import (
    SEQUENCE,
    error_of,
    id_of,
    letter,
    now_ms,
    opening,
    packet,
    part,
    sent,
    step,
    viewed,
)

if TYPE_CHECKING:
    from rolekit.store.base import Store
    from tests.conformance.store import Ground


async def park(store: Store, *letters: DeadLetterRow) -> None:
    for number, each in enumerate(letters):
        await store.commit([step(1000 + number, dead=each)])


class Dead:
    """Dead letters: listed, replayed, dropped."""

    async def test_a_dead_letter_is_read_as_it_was_parked(self, ground: Ground) -> None:
        store = await ground.open()
        before_ms = now_ms()
        await park(store, letter(1))

        (found,) = await store.dead_letters(Letters(), limit=10)

        given = letter(1)
        assert (found.id, found.packet, found.handler) == (given.id, given.packet, "H.h")
        assert (found.reason, found.traceback, found.attempts) == ("why", "where", 3)
        assert before_ms - 1000 <= found.at_ms <= before_ms + 5000
        assert (found.is_closed, found.is_forced) == (False, False)

    async def test_open_ones_are_listed_and_counted_by_handler(self, ground: Ground) -> None:
        store = await ground.open()
        await park(store, letter(1), letter(2, handler="O.o"), letter(3))
        await store.drop([letter(3).id])

        every = await store.dead_letters(Letters(), limit=10)
        some = await store.dead_letters(Letters(handler="O.o"), limit=10)
        few = await store.dead_letters(Letters(), limit=1)

        assert {each.id for each in every} == {letter(1).id, letter(2).id}
        assert ([each.id for each in some], len(few)) == ([letter(2).id], 1)
        assert await store.count_dead() == {"H.h": 1, "O.o": 1}

    async def test_the_newest_is_listed_first(self, ground: Ground) -> None:
        store = await ground.open()
        await park(store, letter(1))
        await asyncio.sleep(0.005)
        await store.commit([step(2, dead=letter(2))])

        found = await store.dead_letters(Letters(), limit=10)

        assert [each.id for each in found] == [letter(2).id, letter(1).id]

    async def test_closed_ones_are_shown_when_asked_by_id(self, ground: Ground) -> None:
        store = await ground.open()
        await park(store, letter(1))
        await store.drop([letter(1).id])

        (found,) = await store.dead_letters(
            Letters(prefixes=(letter(1).id, "no"), closed=True), limit=10
        )

        assert found.is_closed

    async def test_a_replay_sends_the_next_generation_afresh(self, ground: Ground) -> None:
        store = await ground.open()
        await park(store, letter(1, generation=4))
        before_ms = now_ms()

        commit = await store.replay([letter(1, generation=4).id], force=False)

        (out,) = commit.leaving
        assert (out.packet.id, out.packet.generation) == (id_of(1), 5)
        assert (out.packet.queue, out.packet.body) == ("q", b"1")
        assert (out.packet.birth_ms or 0) >= before_ms - 1000
        assert decode_head(out.packet.head).attempts == Attempts()
        assert commit.fresh == {(id_of(1), 4)}

    async def test_a_replay_is_done_once(self, ground: Ground) -> None:
        stores = [await ground.open() for _ in range(3)]
        await park(stores[0], letter(1))

        commits = await asyncio.gather(*(s.replay([letter(1).id], force=False) for s in stores))

        assert sum(len(commit.leaving) for commit in commits) == 1
        assert await stores[0].count_dead() == {}

    async def test_what_was_perhaps_done_is_replayed_by_force_only(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await park(store, letter(1, forced=True))

        gentle = await store.replay([letter(1).id], force=False)
        forced = await store.replay([letter(1).id], force=True)

        assert (len(gentle.leaving), len(forced.leaving)) == (0, 1)

    async def test_a_drop_tells_how_many_were_open_and_sends_nothing(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await park(store, letter(1), letter(2, forced=True))

        dropped = [await store.drop([letter(1).id, letter(2).id, "no"]) for _ in range(2)]
        replayed = await store.replay([letter(1).id], force=True)

        assert (dropped, replayed.leaving) == ([2, 0], [])

    async def test_filters_combine(self, ground: Ground) -> None:
        store = await ground.open()
        named = replace(letter(0xA1), reason="No Money", type="shop.Charge")
        await park(store, named, letter(0xA2), letter(0xB1, handler="O.o"))
        at_ms = (await store.dead_letters(Letters(), limit=10))[0].at_ms
        one = id_of(0xA1)[:31]
        found = {
            text: {row.id for row in await store.dead_letters(which, limit=10)}
            for text, which in {
                "reason": Letters(reason="no money"),
                "type": Letters(type="shop.Charge"),
                "prefix": Letters(prefixes=(one,)),
                "both": Letters(prefixes=(one,), reason="why"),
                "neither": Letters(handler="O.o", reason="money"),
                "since": Letters(since_ms=at_ms - 5000),
                "later": Letters(since_ms=at_ms + 5000),
                "until": Letters(until_ms=at_ms - 5000),
                "percent": Letters(reason="%"),
            }.items()
        }

        assert found == {
            "reason": {named.id}, "type": {named.id},
            "prefix": {named.id, letter(0xA2).id}, "both": {letter(0xA2).id},
            "neither": set(), "since": {named.id, letter(0xA2).id, letter(0xB1).id},
            "later": set(), "until": set(), "percent": set(),
        }  # fmt: skip

    async def test_an_edit_changes_what_is_replayed_and_nothing_else(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await park(store, letter(1))
        head = encode_head(Head(type="y"))

        done = [await store.edit(each, head, b"new") for each in (letter(1).id, "no")]
        (row,) = await store.dead_letters(Letters(), limit=10)
        commit = await store.replay([letter(1).id], force=False)
        late = await store.edit(letter(1).id, head, b"new")

        (out,) = commit.leaving
        assert (done, late, row.is_edited) == ([True, False], False, True)
        assert (out.packet.id, out.packet.queue, out.packet.generation) == (id_of(1), "q", 1)
        assert (out.packet.body, decode_head(out.packet.head).type) == (b"new", "y")

    async def test_a_head_that_cannot_be_read_is_replayed_as_it_is(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        broken = letter(1)
        broken.packet.head = b"?"
        await park(store, broken, letter(2))

        commit = await store.replay([broken.id, letter(2).id], force=False)

        assert {out.packet.head == b"?" for out in commit.leaving} == {True, False}

    async def test_a_drop_closes_the_position_that_waits(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2), closings=[part(1)])])
        placed = letter(2)
        placed.packet.head = encode_head(Head(frames=(Frame(SEQUENCE, "g", (0,)),)))
        await park(store, placed)

        await store.drop([placed.id])

        view = await viewed(store)
        assert [closing.by.name for closing in view.closings.values()] == ["DROPPED", "PART"]


class Answers:
    """Letters that handlers are told of, and how those end."""

    async def test_one_that_handlers_were_told_of_is_not_open(self, ground: Ground) -> None:
        store = await ground.open()
        await park(store, replace(letter(1), told=2), letter(2))

        listed = [
            {row.id for row in await store.dead_letters(which, limit=10)}
            for which in (Letters(), Letters(answered=True))
        ]
        replayed = await store.replay([letter(1).id], force=True)

        assert listed == [{letter(2).id}, {letter(1).id, letter(2).id}]
        assert await store.count_dead() == {"H.h": 1}
        assert replayed.fresh == set()

    async def test_the_last_handler_that_is_done_closes_it(self, ground: Ground) -> None:
        store = await ground.open()
        await park(store, replace(letter(1), told=2))
        first = step(2, answers=letter(1).id)

        for _ in range(2):
            await store.commit([first])
        (half,) = await store.dead_letters(Letters(answered=True), limit=10)
        await store.commit([step(3, answers=letter(1).id)])
        (whole,) = await store.dead_letters(Letters(answered=True), limit=10)

        assert (half.told, half.is_closed) == (1, False)
        assert (whole.told, whole.closed_how) == (0, "answered")

    async def test_both_may_be_done_in_one_commit(self, ground: Ground) -> None:
        store = await ground.open()
        await park(store, replace(letter(1), told=2))

        await store.commit([step(n, answers=letter(1).id) for n in (2, 3)])

        (row,) = await store.dead_letters(Letters(answered=True), limit=10)
        assert row.closed_how == "answered"

    @pytest.mark.parametrize(("done", "state"), [(False, ""), (True, "answered")])
    async def test_when_the_answer_is_dropped_it_is_open_unless_another_answered(
        self, ground: Ground, *, done: bool, state: str
    ) -> None:
        store = await ground.open()
        answer = replace(letter(2), answers=letter(1).id)
        await park(store, replace(letter(1), told=1 + done), answer)
        if done:
            await store.commit([step(3, answers=letter(1).id)])

        await store.drop([answer.id])

        (row,) = await store.dead_letters(
            Letters(prefixes=(letter(1).id,), closed=True), limit=10
        )
        assert (row.told, row.closed_how) == (0, state)

    async def test_whoever_answers_after_a_replay_takes_no_effect(self, ground: Ground) -> None:
        store = await ground.open()
        await park(store, replace(letter(1), told=1))
        await store.replay([letter(1).id], force=False, answered=True)

        late = await error_of(
            store.commit([step(2, answers=letter(1).id, outputs=[packet(20)])])
        )
        other = await store.commit([step(3, outputs=[packet(30)])])

        assert isinstance(late, Taken)
        assert sent(other) == [30]
        assert id_of(20) not in {out.packet.id for out in await store.unsent([], 100)}

    async def test_a_replay_that_overtakes_the_answer_closes_that(self, ground: Ground) -> None:
        store = await ground.open()
        answer = replace(letter(2), answers=letter(1).id)
        await park(store, replace(letter(1), told=1), answer)

        commit = await store.replay([letter(1).id], force=False, answered=True)
        late = await store.replay([answer.id], force=True, answered=True)

        assert (commit.fresh, late.fresh) == ({(id_of(1), 0)}, set())

    async def test_what_the_database_said_is_kept_apart(self, ground: Ground) -> None:
        store = await ground.open()
        await park(store, replace(letter(1), detail="Key (id)=(5) already exists."))

        (row,) = await store.dead_letters(Letters(), limit=10)

        assert (row.reason, row.detail) == ("why", "Key (id)=(5) already exists.")
