"""Where the time of a load test went, told from traces that are made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from rolekit.load.traced import Telling
from rolekit.load.tracing import read
from rolekit.model.span import Span
from rolekit.observe.story import COMMIT, HANDLER, INTAKE, QUEUE
from tests.unit.fakes_traces import (
    COMMIT_MS,
    HANDLER_MS,
    NOON_NS,
    SPLIT_MS,
    message_of,
    request,
    trace_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio


def telling(*, messages: tuple[str, ...] = (), started: tuple[str, ...] = ()) -> Telling:
    return Telling(
        start_ns=NOON_NS, for_s=80, warm_up_s=10, messages=messages, started=started,
        now_ns=NOON_NS + 90_000_000_000,
    )  # fmt: skip


def test_each_stage_is_averaged_by_when_requests_began() -> None:
    one = telling()
    for number, (at_s, queue_ms) in enumerate([(12.0, 10), (13.5, 30), (41.0, 200)]):
        one.take(request(number, at_s=at_s, queue_ms=queue_ms))

    told = one.told()

    assert (told.traces, told.bar_s) == (3, 2)
    assert [(bar.at_s, bar.traces) for bar in told.stages] == [(12, 2), (40, 1)]
    assert [bar.us[QUEUE] for bar in told.stages] == pytest.approx([20_000, 200_000])
    assert told.stages[1].us[HANDLER] == pytest.approx(
        1000 * (HANDLER_MS + SPLIT_MS - COMMIT_MS)
    )
    assert told.mean_us[QUEUE] == pytest.approx(80_000)
    assert told.mean_us[INTAKE] == pytest.approx(1_000)
    assert (told.places[0].stage, told.places[0].where) == (QUEUE, "Deliverer.deliver")
    assert {COMMIT, HANDLER} <= {place.stage for place in told.places}


def test_what_is_traced_since_it_was_late_is_shown_and_not_averaged() -> None:
    one = telling()
    one.take(request(1, at_s=20, queue_ms=10))
    one.take(request(2, at_s=21, queue_ms=9000, is_late=True))

    told = one.told()

    assert told.traces == 1
    assert {fall.trace for fall in told.slowest} == {trace_of(1), trace_of(2)}


def test_the_warm_up_and_requests_of_others_are_left_out() -> None:
    one = telling(messages=(message_of(2), message_of(3)), started=(trace_of(4),))
    one.take(request(1, at_s=20, queue_ms=10))
    one.take(request(2, at_s=9, queue_ms=10))
    one.take(request(3, at_s=20, queue_ms=10))
    one.take(request(4, at_s=20, queue_ms=10))

    assert {fall.trace for fall in one.told().slowest} == {trace_of(3), trace_of(4)}


def test_the_slowest_come_first_each_with_its_cause_and_its_steps() -> None:
    one = telling()
    for number in range(20):
        one.take(request(number, at_s=20, queue_ms=100 * number))

    slowest = one.told().slowest

    assert [fall.trace for fall in slowest] == [trace_of(n) for n in range(19, 13, -1)]
    worst = slowest[0]
    assert worst.took_us == pytest.approx(1_921_000, rel=0.01)
    assert worst.cause is not None
    assert (worst.cause.stage, worst.cause.where) == (QUEUE, "Deliverer.deliver")
    assert sum(us for _, _, us, _ in worst.way) == pytest.approx(worst.took_us)
    assert [row.name for row in worst.rows] == [
        "POST /mail", "send Splitter.split", "process Splitter.split",
        "send Deliverer.deliver", *["process Deliverer.deliver"] * 3,
    ]  # fmt: skip
    assert [stage for stage, _, _ in worst.rows[-1].parts] == [QUEUE, HANDLER, COMMIT]


def test_a_step_says_of_how_many_messages_it_was_unless_of_one_and_what_went_wrong() -> None:
    spans = request(1, at_s=20, queue_ms=10)
    for span, count in zip(spans, (7, 1, 0), strict=False):
        span.attributes["messaging.batch.message_count"] = count
    spans[0] = msgspec.structs.replace(spans[0], error="ValueError", detail="no such order")
    one = telling()
    one.take(spans)

    rows = one.told().slowest[0].rows

    assert sorted(row.note for row in rows if row.note) == [
        "7 messages, ValueError: no such order"
    ]


def test_many_alike_are_drawn_as_a_few_and_the_last_to_end() -> None:
    spans = request(1, at_s=20, queue_ms=10)
    part = spans[0]
    for number in range(50):
        ended = part.ended_ns + (number == 30)
        spans.append(_again(part, number, ended))
    one = telling()
    one.take(spans)

    rows = one.told().slowest[0].rows

    assert [row.name for row in rows][-1] == "50 more: process Deliverer.deliver"
    assert len(rows) == 8
    ends = [begin + us for _, begin, us in (row.parts[-1] for row in rows[:-1])]
    assert max(ends) == (part.ended_ns + 1 - NOON_NS - 20_000_000_000) // 1000


def _again(part: Span, number: int, ended_ns: int) -> Span:
    return Span(
        trace=part.trace, id=f"{number:016x}", parent=part.parent, name=part.name,
        kind=part.kind, begun_ns=part.begun_ns, ended_ns=ended_ns, message=part.message,
        attributes=part.attributes,
    )  # fmt: skip


class KeptTraces:
    """Keeps as many requests as wanted, one each 10 ms; says what it was asked for."""

    def __init__(self, count: int) -> None:
        self._numbers = {trace_of(number): number for number in range(count)}
        self.asked: list[str] = []
        self.window = (0.0, 0.0)

    async def begun(self, since: float, until: float) -> list[str]:
        self.window = (since, until)
        return list(self._numbers)

    async def with_messages(self, messages: Sequence[str]) -> list[str]:
        return [trace_of(number) for number in self._numbers.values()
                if message_of(number) in messages]  # fmt: skip

    async def spans_of(self, traces: Sequence[str]) -> list[list[Span]]:
        self.asked += traces
        return [
            request(self._numbers[trace], at_s=11 + self._numbers[trace] / 100, queue_ms=1)
            for trace in traces
        ]


async def test_of_many_traces_some_are_read_and_those_of_the_slowest_in_any_case() -> None:
    kept = KeptTraces(3001)

    told = await read(kept, telling(), [(message_of(1001), ""), ("", trace_of(2002)), ("", "")])

    assert told.traces == len(kept.asked) == len(set(kept.asked)) <= 1003
    assert {trace_of(1001), trace_of(2002), trace_of(0), trace_of(3000)} <= set(kept.asked)
    assert kept.window[0] < NOON_NS / 1e9 < NOON_NS / 1e9 + 80 < kept.window[1]


async def test_where_requests_have_ids_only_their_traces_are_read() -> None:
    kept = KeptTraces(3001)
    ours = tuple(message_of(number) for number in range(0, 3001, 100))

    told = await read(kept, telling(messages=ours, started=(trace_of(7),)), [])

    assert set(kept.asked) == {trace_of(7), *(trace_of(n) for n in range(0, 3001, 100))}
    assert told.traces == 32
