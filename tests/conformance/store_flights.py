"""What every store must tell of sequences that are not over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rolekit.model.envelope import Attempts, Head, Kind, Packet, encode_head
from rolekit.model.position import Frame
from rolekit.model.reassembly import ClosedBy
from rolekit.store.base import Due
from tests.conformance.store import (
    SEQUENCE,
    close,
    failed,
    id_of,
    letter,
    now_ms,
    opening,
    part,
    release,
    step,
)

if TYPE_CHECKING:
    from tests.conformance.store import Ground


def standing(number: int, *path: int, queue: str = "W.work") -> Packet:
    """Make a packet that stands in the sequence."""
    frames = (Frame(SEQUENCE, "g", path),)
    head = Head(type="x", frames=frames, attempts=Attempts(failures=3))
    return Packet(queue=queue, id=id_of(number), generation=3, head=encode_head(head))


class Flights:
    """Open sequences, and the packets that stand in them."""

    async def test_an_open_sequence_is_told_with_what_it_waits_for(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(4), closings=[part(0), failed(1)])])
        await release(store, 2)

        (flight,) = await store.flights(10)

        assert (flight.id, flight.gather, flight.source.type) == (SEQUENCE, "g", "x")
        assert (flight.cursor.next, flight.cursor.totals, flight.released) == ((1,), (4,), 1)
        assert flight.next is not None
        assert (flight.next.by, flight.next.dead_letter) == (ClosedBy.FAILED, "d-0")
        assert abs(flight.moved_ms - now_ms()) < 60_000
        assert flight.waits

    async def test_one_that_is_over_is_not_told(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(1), closings=[part(0)])])
        before = len(await store.flights(10))
        await release(store, 2)

        assert (before, await store.flights(10)) == (1, [])

    async def test_what_moved_longest_ago_comes_first(self, ground: Ground) -> None:
        store = await ground.open()
        other = replace(opening(2), id="0b" * 16)
        await store.commit([step(1, opening=opening(2), closings=[part(0)])])
        await store.commit([step(2, opening=other)])
        await release(store, 3)

        found = await store.flights(10)

        assert [flight.id for flight in found] == ["0b" * 16, SEQUENCE]
        assert len(await store.flights(1)) == 1

    async def test_a_ready_one_says_so(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, opening=opening(2))])
        await close(store, 2, part(0))

        (flight,) = await store.flights(10)

        assert flight.is_ready

    async def test_what_waits_for_its_next_attempt_is_found(self, ground: Ground) -> None:
        store = await ground.open()
        later = [
            Due(standing(9, 2), 5000, "attempt 3 of 8 (Busy: 451)"),
            Due(letter(4).packet, 1),
        ]
        await store.commit([step(1, opening=opening(4), later=later)])

        (held,) = await store.held([SEQUENCE, "00" * 16])

        assert (held.where, held.queue, held.due_ms) == ("schedule", "W.work", 5000)
        assert (held.id, held.generation, held.why) == (id_of(9), 3, later[0].why)
        assert held.head.frames[0].path == (2,)

    async def test_what_has_not_left_or_is_dead_is_found(self, ground: Ground) -> None:
        store = await ground.open()
        dead = replace(letter(5), packet=standing(5, 1))
        await store.commit([step(1, opening=opening(4), outputs=[standing(9, 0)])])
        await store.commit([step(5, dead=dead), step(6, dead=letter(6))])

        found = {held.where: held for held in await store.held([SEQUENCE])}

        assert sorted(found) == ["dead letter", "outbox"]
        assert (found["outbox"].id, found["outbox"].queue) == (id_of(9), "W.work")
        assert (found["dead letter"].dead_letter, found["dead letter"].why) == (dead.id, "why")

    async def test_a_closed_dead_letter_holds_nothing(self, ground: Ground) -> None:
        store = await ground.open()
        dead = replace(letter(5), packet=standing(5, 1))
        await store.commit([step(5, dead=dead)])
        await store.drop([dead.id])

        assert await store.held([SEQUENCE]) == []

    async def test_a_token_is_found_by_its_sequence(self, ground: Ground) -> None:
        store = await ground.open()
        head = encode_head(Head(kind=Kind.RELEASE, sequence=SEQUENCE))
        token = Packet(queue="g", id=id_of(8), generation=1, head=head)
        await store.commit([step(1, later=[Due(token, 5000, "attempt 1 of 5")])])

        (held,) = await store.held([SEQUENCE])

        assert (held.queue, held.why) == ("g", "attempt 1 of 5")
