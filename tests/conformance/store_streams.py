"""What every store must do with streams: positions that follow commits, rows without end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from rolekit.model import position
from rolekit.model.envelope import Head, Kind, Packet, decode_head, encode_head, is_behind
from rolekit.model.position import stream_number
from rolekit.model.reassembly import ClosedBy, Closing, Cursor
from rolekit.store.base import KeyRow, Streamed
from tests.conformance.store import (
    HOUR_MS,
    SEQUENCE,
    id_of,
    letter,
    now_ms,
    opening,
    packet,
    release,
    release_of,
    step,
    tokens,
    viewed,
)

if TYPE_CHECKING:
    import pytest

    from rolekit.store.base import Commit, Store
    from tests.conformance.store import Ground

TOKEN = encode_head(Head(kind=Kind.RELEASE, sequence=SEQUENCE))


def streamed(number: int, sequence: str = SEQUENCE) -> Streamed:
    return Streamed(
        name="ticks",
        opening=replace(
            opening(),
            id=sequence,
            token=Packet(queue="g", id=sequence, head=TOKEN),
            cursor=Cursor((0, 0), (None, position.ROW)),
            is_stream=True,
            deadline_ms=2**62,
        ),
        packet=packet(number),
    )


def numbers(commit: Commit, sequence: str = SEQUENCE) -> dict[str, int]:
    """Say which position each message got."""
    return {
        out.packet.id: stream_number(frame.path)
        for out in commit.leaving
        for frame in decode_head(out.packet.head).frames
        if frame.sequence == sequence
    }


async def send(store: Store, *sent: int, sequence: str = SEQUENCE) -> Commit:
    commit, _ = await store.accept([], [], None, [streamed(n, sequence) for n in sent])
    return commit


def arrived(number: int, sent: Packet) -> Closing:
    frame = decode_head(sent.head).frames[-1]
    return Closing(sequence=SEQUENCE, path=frame.path, by=ClosedBy.PART, body=b"%d" % number)


class Streams:
    """Positions in the order of commits."""

    async def test_the_first_message_makes_the_stream(self, ground: Ground) -> None:
        store = await ground.open()

        commit = await send(store, 1, 2)

        view = await viewed(store)
        assert numbers(commit) == {id_of(1): 0, id_of(2): 1}
        assert (view.is_stream, view.cursor.next) == (True, (0, 0))

    async def test_positions_go_on_whoever_sends(self, ground: Ground) -> None:
        one, other = await ground.open(), await ground.open()
        await send(one, 1, 2)

        second = await send(other, 3)
        third = await send(one, 4)

        assert (numbers(second), numbers(third)) == ({id_of(3): 2}, {id_of(4): 3})

    async def test_many_at_once_get_each_position_once(self, ground: Ground) -> None:
        stores = [await ground.open() for _ in range(4)]

        commits = await asyncio.gather(
            *(send(stores[n % 4], 2 * n, 2 * n + 1) for n in range(20))
        )

        given = [numbers(commit) for commit in commits]
        assert sorted(at for one in given for at in one.values()) == list(range(40))
        assert all(
            one[id_of(2 * n)] + 1 == one[id_of(2 * n + 1)] for n, one in enumerate(given)
        )

    async def test_a_repeat_of_a_key_gets_no_position(self, ground: Ground) -> None:
        store = await ground.open()
        key = KeyRow(key=id_of(9), body_hash=id_of(8))
        await store.accept([], [], key, [streamed(1)])

        again, prior = await store.accept([], [], key, [streamed(2)])
        after = await send(store, 3)

        assert (numbers(again), prior is not None) == ({}, True)
        assert numbers(after) == {id_of(3): 1}

    async def test_streams_do_not_mix(self, ground: Ground) -> None:
        store = await ground.open()
        other = "ab" * 16

        both, _ = await store.accept(
            [], [], None, [streamed(1), streamed(2, other), streamed(3)]
        )

        assert numbers(both) == {id_of(1): 0, id_of(3): 1}
        assert numbers(both, other) == {id_of(2): 0}

    async def test_the_backlog_is_what_was_sent_and_not_released(self, ground: Ground) -> None:
        store = await ground.open()
        sent = [out.packet for out in (await send(store, 1, 2, 3)).leaving]
        await store.commit([step(10, closings=[arrived(1, sent[0]), arrived(2, sent[1])])])
        await release(store, 11)

        assert await store.backlogs([SEQUENCE, "ab" * 16]) == {SEQUENCE: 1}

    async def test_a_stream_goes_on_behind_the_end_of_a_row(
        self, ground: Ground, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(position, "ROW", 3)
        store = await ground.open()
        sent = [out.packet for out in (await send(store, 1, 2)).leaving]
        for n in range(3, 9):
            sent += [
                out.packet for out in (await send(store, n)).leaving if out.packet.queue == "q"
            ]
        items: list[bytes] = []
        for n, one in enumerate(sent):
            await store.commit([step(20 + n, closings=[arrived(n, one)])])
            items += (await release(store, 40 + n))[1]
        _, rest = await release(store, 60)

        assert [stream_number(decode_head(one.head).frames[-1].path) for one in sent] == [
            *range(8)
        ]
        assert items + rest == [b"%d" % n for n in range(8)]
        assert await store.backlogs([SEQUENCE]) == {SEQUENCE: 0}

    async def test_what_a_run_gives_is_one_row_with_the_next_token_at_its_end(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        sent = [out.packet for out in (await send(store, 1, 2)).leaving]
        await store.commit([step(9, closings=[arrived(n, sent[n]) for n in (0, 1)])])
        moving = replace(release_of(await viewed(store)), follows=True)
        given = [packet(91), packet(92)]

        await store.commit(
            [step(20, outputs=[packet(90)]), step(21, release=moving, outputs=given)]
        )

        rows: dict[int, list[Packet]] = {}
        for out in await store.unsent([], 100):
            rows.setdefault(out.n, []).append(out.packet)
        (row,) = [packets for packets in rows.values() if is_behind(packets[-1])]
        assert [each.id for each in row[:-1]] == [id_of(91), id_of(92)]
        assert (row[-1].queue, decode_head(row[-1].head).sequence) == ("g", SEQUENCE)
        assert (await send(store, 3)).topics == set()  # it is ready: no second token

    async def test_housekeeping_leaves_a_stream_alone(self, ground: Ground) -> None:
        store = await ground.open()
        await send(store, 1)

        await store.keep_house(now_ms() + 100 * 24 * HOUR_MS)
        expired = await store.expire(now_ms() + 100 * 24 * HOUR_MS, 10)

        assert tokens(expired) == []
        assert numbers(await send(store, 2)) == {id_of(2): 1}

    async def test_dropping_its_release_skips_the_run_that_was_begun(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        sent = [out.packet for out in (await send(store, 1, 2, 3)).leaving]
        await store.commit([step(9, closings=[arrived(n, sent[n]) for n in (0, 1)])])
        await store.seal(SEQUENCE, (0, 0), (0, 2), [])
        dead = letter(5)
        dead = replace(dead, packet=replaced(dead.packet, TOKEN))
        await store.commit([step(5, dead=dead)])

        await store.drop([dead.id])
        await store.commit([step(12, closings=[arrived(2, sent[2])])])
        _, items = await release(store, 13)

        assert items == [b"2"]
        assert (await viewed(store)).is_open


def replaced(given: Packet, head: bytes) -> Packet:
    given.head = head
    return given
