"""Partitions, held keys and waiting lists; part of the suite of stores."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import ConfigError, FenceLost
from rolekit.model.envelope import Head, KeyedHead, Kind, Packet, decode_head, encode_head
from rolekit.model.envelope import keyed as keyed_head
from rolekit.model.keys import partition_of
from rolekit.model.position import Frame
from rolekit.store.base import DeadLetterRow, Outcome, Step
from rolekit.store.keys import Fence, Hold, KeyedStep
from tests.conformance.store import SEQUENCE, id_of, now_ms, packet, step

if TYPE_CHECKING:
    from rolekit.store.base import Store
    from tests.conformance.store import Ground

ROLE = "Orders"
COUNT = 4
KEY = "k1"
NUMBER = partition_of(KEY, COUNT)
QUEUE = f"{ROLE}~k{NUMBER:02}"


async def own(store: Store, role: str = ROLE) -> Fence:
    """Own the partition of the key."""
    await store.enrol(role, COUNT)
    await store.attend(role)
    fences = await store.take(role, [NUMBER])
    return fences[0]


def keyed(number: int, fence: Fence, outcome: Outcome = Outcome.DONE, **says: object) -> Step:
    made = step(number, outcome=outcome)
    made.keyed = KeyedStep(fence=fence, key=KEY)
    for name, value in says.items():
        setattr(made.keyed, name, value)
    return made


def message(number: int) -> Packet:
    head = encode_head(keyed_head(Head(type="x"), "Orders.place", KEY))
    return Packet(queue=QUEUE, id=id_of(number), birth_ms=now_ms(), head=head, body=b"{}")


class Partitions:
    """Who owns what, and under which epoch."""

    async def test_a_role_keeps_the_number_of_its_partitions(self, ground: Ground) -> None:
        store = await ground.open()
        await store.enrol(ROLE, COUNT)
        await store.enrol(ROLE, COUNT)

        with pytest.raises(ConfigError, match=r"partitions = 5, but .* divided into 4"):
            await store.enrol(ROLE, COUNT + 1)

        assert list((await store.attend(ROLE)).partitions) == [0, 1, 2, 3]

    async def test_many_may_make_them_at_once(self, ground: Ground) -> None:
        stores = [await ground.open() for _ in range(4)]

        await asyncio.gather(*(store.enrol(ROLE, COUNT) for store in stores))

        assert len((await stores[0].attend(ROLE)).partitions) == COUNT

    async def test_each_new_owner_has_a_higher_epoch(self, ground: Ground) -> None:
        store = await ground.open()
        first = await own(store)
        await store.give(first)

        second = await own(store)

        assert (first.partition, second.partition) == (NUMBER, NUMBER)
        assert second.epoch > first.epoch

    async def test_what_a_member_owns_is_taken_by_nobody(self, ground: Ground) -> None:
        store, other = await ground.open(), await ground.open()
        fence = await own(store)

        await other.enrol(ROLE, COUNT)
        roll = await other.attend(ROLE)
        taken = await other.take(ROLE, range(COUNT))

        assert len(roll.members) == 2
        assert roll.partitions[NUMBER].epoch == fence.epoch
        assert roll.partitions[NUMBER].owner is not None
        assert sorted(each.partition for each in taken) == [
            n for n in range(COUNT) if n != NUMBER
        ]

    async def test_what_is_given_is_free_for_others(self, ground: Ground) -> None:
        store, other = await ground.open(), await ground.open()
        fence = await own(store)
        await other.attend(ROLE)

        await store.give(fence)

        assert (await other.attend(ROLE)).partitions[NUMBER].owner is None
        assert [each.partition for each in await other.take(ROLE, [NUMBER])] == [NUMBER]

    async def test_only_the_newest_owner_can_give(self, ground: Ground) -> None:
        store = await ground.open()
        old = await own(store)
        await store.give(old)
        await own(store)

        await store.give(old)

        assert (await store.attend(ROLE)).partitions[NUMBER].owner is not None

    async def test_who_leaves_owns_nothing_and_is_no_member(self, ground: Ground) -> None:
        store, other = await ground.open(), await ground.open()
        await own(store)

        await store.leave(ROLE)

        roll = await other.attend(ROLE)
        assert len(roll.members) == 1
        assert roll.partitions[NUMBER].owner is None

    async def test_what_the_dead_owned_is_free_at_once(self, ground: Ground) -> None:
        store, other = await ground.open(), await ground.open()
        await own(store)
        await other.attend(ROLE)

        await ground.die(store)

        roll = await other.attend(ROLE)
        assert len(roll.members) == 1
        assert [each.partition for each in await other.take(ROLE, [NUMBER])] == [NUMBER]

    async def test_a_commit_of_a_former_owner_is_refused_whole(self, ground: Ground) -> None:
        store, other = await ground.open(), await ground.open()
        old = await own(store)
        await store.give(old)
        new = await own(other)
        late = keyed(1, old)
        late.outputs = [packet(9)]

        with pytest.raises(FenceLost, match="another owner"):
            await store.commit([step(2), late])

        assert await store.seen([(id_of(n), 0, late.birth_ms) for n in (1, 2)]) == set()
        commit = await other.commit([keyed(1, new)])
        assert commit.fresh == {(id_of(1), 0)}


class HeldKeys:
    """What a message that failed means to those behind it."""

    async def test_a_message_that_failed_holds_its_key(self, ground: Ground) -> None:
        store = await ground.open()
        fence = await own(store)

        await store.commit([keyed(1, fence, Outcome.RETRY, holds=True)])

        assert await store.holds(fence) == {KEY: Hold(id_of(1), has_list=False)}
        assert await store.hold_of(fence, KEY) == Hold(id_of(1), has_list=False)
        assert await store.hold_of(fence, "other") == Hold()

    async def test_a_failure_that_was_recorded_before_holds_nothing(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        fence = await own(store)
        await store.commit([keyed(1, fence)])

        await store.commit([keyed(1, fence, Outcome.RETRY, holds=True)])

        assert await store.holds(fence) == {}

    async def test_its_later_generation_frees_the_key(self, ground: Ground) -> None:
        store = await ground.open()
        fence = await own(store)
        await store.commit([keyed(1, fence, Outcome.RETRY, holds=True)])
        again = keyed(1, fence, frees=True)
        again.generation = 1

        await store.commit([again])

        assert await store.holds(fence) == {}

    async def test_one_that_fails_again_still_holds_it(self, ground: Ground) -> None:
        store = await ground.open()
        fence = await own(store)
        await store.commit([keyed(1, fence, Outcome.RETRY, holds=True)])
        again = keyed(1, fence, Outcome.RETRY, holds=True, frees=True)
        again.generation = 1

        await store.commit([again])

        assert await store.holds(fence) == {KEY: Hold(id_of(1), has_list=False)}

    async def test_followers_wait_in_order_and_each_once(self, ground: Ground) -> None:
        store = await ground.open()
        fence = await own(store)

        await store.set_aside(fence, KEY, [message(3), message(2)], [])
        await store.set_aside(fence, KEY, [message(2), message(1), message(3)], [])

        found = await store.next_aside(fence, KEY, 10)
        assert [each.packet.id for each in found] == [id_of(3), id_of(2), id_of(1)]
        assert found[0].packet == message(3) or found[0].packet.head == message(3).head
        assert [one.packet.id for one in await store.next_aside(fence, KEY, 1)] == [id_of(3)]
        assert await store.holds(fence) == {KEY: Hold("", has_list=True)}
        assert await store.count_aside() == {QUEUE: 3}

    async def test_what_waits_behind_its_key_is_found_by_its_sequence(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        fence = await own(store)
        head = Head(type="x", frames=(Frame(SEQUENCE, "g", (3,)),))
        waiting = message(1)
        waiting.head = encode_head(keyed_head(head, "Orders.place", KEY))

        await store.set_aside(fence, KEY, [waiting], [])

        found = await store.held([SEQUENCE])
        assert [(held.where, held.id) for held in found] == [("behind", id_of(1))]

    async def test_a_former_owner_sets_nothing_aside(self, ground: Ground) -> None:
        store, other = await ground.open(), await ground.open()
        old = await own(store)
        await store.give(old)
        new = await own(other)

        with pytest.raises(FenceLost):
            await store.set_aside(old, KEY, [message(1)], [])

        assert await other.next_aside(new, KEY, 10) == []

    async def test_an_outcome_strikes_its_message_from_the_list(self, ground: Ground) -> None:
        store = await ground.open()
        fence = await own(store)
        await store.set_aside(fence, KEY, [message(1), message(2)], [])
        first = (await store.next_aside(fence, KEY, 1))[0]

        await store.commit([keyed(1, fence, listed=first.n)])

        assert [each.packet.id for each in await store.next_aside(fence, KEY, 9)] == [id_of(2)]

    async def test_so_does_one_that_was_recorded_before(self, ground: Ground) -> None:
        store = await ground.open()
        fence = await own(store)
        await store.commit([keyed(1, fence)])
        await store.set_aside(fence, KEY, [message(1)], [])
        first = (await store.next_aside(fence, KEY, 1))[0]

        await store.commit([keyed(1, fence, listed=first.n)])

        assert await store.holds(fence) == {}

    async def test_a_message_can_be_struck_by_itself(self, ground: Ground) -> None:
        store = await ground.open()
        fence = await own(store)
        await store.set_aside(fence, KEY, [message(1)], [])
        first = (await store.next_aside(fence, KEY, 1))[0]

        await store.strike(fence, first.n)

        assert await store.holds(fence) == {}

    async def test_dropping_a_dead_letter_sends_what_frees_its_key(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        fence = await own(store)
        dying, died = keyed(1, fence, Outcome.DEAD, holds=True), message(1)
        dying.dead = DeadLetterRow(
            id="d1", packet=died, handler="Orders.place", type="x", reason="broken"
        )
        await store.commit([dying])

        await store.drop(["d1"])

        rows = await store.unsent([], 10) or await store.adopt(10)
        leaving = [out.packet for out in rows]
        assert [(each.queue, each.id, each.generation) for each in leaving] == [
            (QUEUE, id_of(1), 1)
        ]
        head = decode_head(leaving[0].head)
        assert isinstance(head, KeyedHead)
        assert (head.kind, head.key) == (Kind.TOMBSTONE, KEY)
