"""Traces as they are kept in Postgres, and what a load test asks of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from rolekit.database import Database
from rolekit.load.traced import Telling
from rolekit.load.tracing import read
from rolekit.model.span import Recall
from rolekit.store.postgres.traces import TraceStore
from rolekit.wiring import migrate, open_traces
from tests.unit.fakes_traces import message_of, request, trace_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.anyio, pytest.mark.servers]


@pytest.fixture
async def kept(rolekit_database: str) -> AsyncIterator[TraceStore]:
    await migrate("traced", rolekit_database)
    async with open_traces(rolekit_database, "traced") as store:
        yield store


async def test_traces_are_found_by_when_they_began_and_by_their_messages(
    kept: TraceStore,
) -> None:
    before = time.time() - 60
    for number in range(3):
        await kept.keep(request(number, at_s=0, queue_ms=10))

    assert await kept.begun(before, before + 120) == [trace_of(n) for n in range(3)]
    assert await kept.begun(before, before + 1) == []
    assert await kept.with_messages([message_of(2), "no id"]) == [trace_of(2)]
    found = await kept.spans_of([trace_of(1), "f" * 32, trace_of(0)])
    assert [{span.trace for span in spans} for spans in found] == [{trace_of(1)}, {trace_of(0)}]
    assert {len(spans) for spans in found} == {len(request(0, at_s=0, queue_ms=10))}


async def test_a_trace_is_listed_by_what_began_it_and_how_long_it_took(
    kept: TraceStore,
) -> None:
    spans = request(0, at_s=0, queue_ms=10)
    ended = sorted(spans, key=lambda span: span.ended_ns)
    first = min(spans, key=lambda span: span.begun_ns)

    for span in reversed(ended):  # they are kept by other processes, in any order
        await kept.keep([span])
    # The route of a request is known once it is answered.
    unnamed = msgspec.structs.replace(first, trace="d" * 32, name="POST", ended_ns=0)
    await kept.keep([unnamed])
    await kept.keep([msgspec.structs.replace(first, trace="d" * 32)])
    await kept.keep([msgspec.structs.replace(first, trace="e" * 32, ended_ns=0)])

    under_way, named, whole = await kept.newest(3)
    assert (whole.name, whole.spans) == (first.name, len(spans))
    assert whole.seconds == pytest.approx((ended[-1].ended_ns - first.begun_ns) / 1e9)
    assert named.name == first.name
    assert (under_way.name, under_way.seconds) == (first.name, None)


async def test_a_run_is_told_from_them(kept: TraceStore) -> None:
    start_ns = time.time_ns() - 10_000_000_000
    for number in range(120):
        await kept.keep(request(number, at_s=number / 20, queue_ms=10, start_ns=start_ns))
    telling = Telling(
        start_ns=start_ns, for_s=10, warm_up_s=1, messages=(), started=(),
        now_ns=time.time_ns(),
    )  # fmt: skip

    told = await read(kept, telling, [(message_of(7), "")])

    assert told.traces == 100
    assert [bar.traces for bar in told.stages] == [20] * 5


async def test_what_is_slow_does_not_crowd_out_what_is_as_it_should_be(
    rolekit_database: str,
) -> None:
    await migrate("traced", rolekit_database)
    database = Database(rolekit_database, "traced")
    kept = TraceStore(database, kept=2)
    try:
        for number in range(4):
            await kept.keep(request(number, at_s=0, queue_ms=10))
        for number in range(4, 30):
            spans = request(number, at_s=0, queue_ms=9000, is_late=True)
            await kept.keep([msgspec.structs.replace(span, is_slow=True) for span in spans])
        await kept.tidy()

        left = [one.id for one in await kept.newest(100)]
        assert left == [trace_of(n) for n in (*range(29, 9, -1), 3, 2)]
        assert await kept.spans_of([trace_of(0), trace_of(9)]) == []
    finally:
        await database.close()


async def test_traces_of_whose_earlier_stages_nobody_remembered_the_last_are_counted(
    rolekit_database: str,
) -> None:
    await migrate("traced", rolekit_database)
    database = Database(rolekit_database, "traced")
    kept = TraceStore(database)
    try:
        await kept.keep(request(0, at_s=0, queue_ms=10))
        await kept.recall([(Recall("r0", trace_of(0)), f"{0:08x}{3:08x}")])  # that of the send
        await kept.recall([(Recall("r1", trace_of(1)), "a" * 16)])
        await kept.recall([(Recall("r2", trace_of(2)), "")])  # counted when it was asked for
        asked = await kept.recalled()
        early = await kept.drop_recalls()
        async with database.connection() as connection:
            await connection.execute(
                f"update {database.schema}.recall set at = now() - interval '1 min'"  # noqa: S608 - ours
            )

        assert sorted(one.root for one in asked) == ["r0", "r1", "r2"]
        assert (early, await kept.drop_recalls()) == (0, 1)
        assert await kept.recalled() == []
    finally:
        await database.close()
