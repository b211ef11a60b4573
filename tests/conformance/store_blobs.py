"""What every store must do with blobs that nothing needs any more.

Days pass by keeping house on each of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rolekit.model.envelope import Packet
from rolekit.store.base import Due, Opening, StateChange, StateKey
from tests.conformance.store import (
    HEAD,
    HOUR_MS,
    SEQUENCE,
    id_of,
    letter,
    now_ms,
    opening,
    part,
    pieces,
    step,
)

if TYPE_CHECKING:
    from rolekit.store.base import Step, Store
    from tests.conformance.store import Ground

DAY_MS = 24 * HOUR_MS
LONG_DAYS = 20
"""Beyond two horizons of a week, a day for replies, and those that granularity adds."""


async def pass_days(store: Store, first: int, last: int) -> None:
    """Keep house on each of these days, the app running on all of them."""
    for day in range(first, last + 1):
        await store.keep_house(now_ms() + day * DAY_MS)


async def blob_of(store: Store, data: bytes = b"abc") -> str:
    return (await store.save_blob(pieces(data), 1 << 20)).id


def holding(name: str, number: int = 5) -> Packet:
    # What stands before the name could be taken for digits of it, escaped.
    body = b"\x80" + name.encode() + b"0"
    return Packet(queue="q", id=id_of(number), head=HEAD, body=body)


def referring(name: str) -> dict[str, Step]:
    body = b'{"id":"' + name.encode() + b'"}'
    source = opening()
    opened = Opening(
        id=SEQUENCE, gather="g", cursor=source.cursor, waits=True, token=source.token,
        source=holding(name), deadline_ms=now_ms() + 900 * DAY_MS,
    )  # fmt: skip
    key = StateKey("role", "Total", "k")
    later = Due(holding(name), now_ms() + 900 * DAY_MS)
    return {
        "outbox": step(1, outputs=[holding(name)]),
        "schedule": step(1, later=[later]),
        "source": step(1, opening=opened),
        "part": step(1, opening=opening(), closings=[part(1, body=body)]),
        "state": step(1, states=[StateChange(key, 0, body)]),
    }


class SpentBlobs:
    """Dropped when they were not used for long and nothing refers to them."""

    async def test_a_blob_stays_while_it_is_young_and_is_dropped_when_it_is_old(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        name = await blob_of(store)

        await pass_days(store, 0, 14)
        young = await store.load_blob(name)
        await pass_days(store, 15, LONG_DAYS)

        assert young == b"abc"
        assert await store.load_blob(name) is None
        assert await store.use_blobs([name]) == set()

    async def test_a_blob_stays_while_an_open_dead_letter_refers_to_it(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        name, other = await blob_of(store), await blob_of(store, b"other")
        dead = replace(letter(5), packet=holding(name))
        await store.commit([step(5, dead=dead)])

        await pass_days(store, 0, 2 * LONG_DAYS)
        while_open = [await store.load_blob(each) for each in (name, other)]
        await store.drop([dead.id])
        await pass_days(store, 2 * LONG_DAYS + 1, 4 * LONG_DAYS)

        assert while_open == [b"abc", None]
        assert await store.load_blob(name) is None

    @pytest.mark.parametrize("where", ["outbox", "schedule", "source", "part", "state"])
    async def test_a_blob_stays_while_what_is_kept_refers_to_it(
        self, ground: Ground, where: str
    ) -> None:
        store = await ground.open()
        name, other = await blob_of(store), await blob_of(store, b"other")
        await store.commit([referring(name)[where]])

        await pass_days(store, 0, LONG_DAYS)

        assert await store.load_blob(name) == b"abc"
        assert await store.load_blob(other) is None

    async def test_what_was_dropped_and_is_saved_again_is_there_again(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        name = await blob_of(store)
        await pass_days(store, 0, LONG_DAYS)

        again = await blob_of(store)

        assert again == name
        assert await store.load_blob(name) == b"abc"

    async def test_a_save_beside_a_drop_never_leaves_a_name_without_bytes(
        self, ground: Ground
    ) -> None:
        store, other = await ground.open(), await ground.open()
        data = [bytes([n]) * 50 for n in range(30)]
        names = [await blob_of(store, each) for each in data]
        await pass_days(store, 0, LONG_DAYS - 6)

        async def save_all() -> None:
            for each in data:
                if not await other.use_blobs([names[data.index(each)]]):
                    await blob_of(other, each)

        await asyncio.gather(pass_days(store, LONG_DAYS - 5, LONG_DAYS), save_all())

        there = await store.use_blobs(names)
        assert [await store.load_blob(name) for name in names if name in there] == [
            each for name, each in zip(names, data, strict=True) if name in there
        ]
