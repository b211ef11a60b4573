"""What is traced of messages, whose context goes where, and what an untraced one leaves."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from rolekit import WorkerRole, handle
from rolekit.flow import remembered, share
from rolekit.model.envelope import decode_head
from rolekit.model.span import (
    Recall,
    Span,
    SpanKind,
    TraceContext,
    context_of,
    may_be_sampled,
)
from rolekit.observe.current import in_hand
from rolekit.observe.tracing import Live, Sampling, Tracer, Untraced, current, within
from tests.unit.fakes_flow import Line, working
from tests.unit.fakes_talks import Ask, Kept, Talks, Told, through

pytestmark = [pytest.mark.anyio]

THEIRS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_KEPT = THEIRS[:-1] + "0"


class Splits(WorkerRole):
    """Splits as often as it is told."""

    @handle
    async def ask(self, ask: Ask) -> list[Told]:
        return [Told(n=n) for n in range(ask.n)]

    @handle(record=True)
    async def told(self, told: Told) -> None: ...


async def test_each_step_is_caused_by_what_the_one_before_sent() -> None:
    kept = Kept()
    line = Line(Talks, tracing=kept.tracing(1))

    await through(line, 1)

    first, ask = kept.named("send Talks.ask"), kept.named("process Talks.ask")
    second, told = kept.named("send Talks.told"), kept.named("process Talks.told")
    assert [first.parent, ask.parent, second.parent, told.parent] == [
        "", first.id, ask.id, second.id,
    ]  # fmt: skip
    assert len({span.trace for span in kept.spans}) == 1
    assert [s.kind for s in (first, ask)] == [SpanKind.PRODUCER, SpanKind.CONSUMER]
    assert ask.message == told.message != ""  # a direct step keeps the id
    assert ask.attributes["messaging.operation.type"] == "process"
    assert {span.id for span in kept.began} >= {first.id, ask.id, second.id, told.id}


async def test_an_untraced_message_carries_nothing() -> None:
    kept = Kept()
    line = Line(Talks, tracing=kept.tracing(0))

    await through(line, 1)

    assert kept.spans == []
    assert line.role.headers == [{}, {}]


@pytest.mark.parametrize("header", [THEIRS, NOT_KEPT])
async def test_a_context_that_the_sender_gave_stays_and_decides(header: str) -> None:
    kept = Kept()
    line = Line(Talks, tracing=kept.tracing(1))

    await through(line, 1, {"traceparent": header, "baggage": "tenant=7", "mine": "x"})

    given = context_of(header)
    assert given is not None
    if not given.is_sampled:
        assert kept.spans == []
        assert [seen["traceparent"] for seen in line.role.headers] == [header, header]
        return
    assert kept.named("process Talks.ask").parent == given.span
    assert {span.trace for span in kept.spans} == {given.trace}
    assert all(seen["baggage"] == "tenant=7" for seen in line.role.headers)


async def test_the_first_of_a_second_is_kept_whatever_the_share() -> None:
    kept = Kept()
    line = Line(Talks, tracing=kept.tracing(0, first_per_s=1))

    async with working(line):
        await line.send(*(Ask(n=n) for n in range(50)))
        await line.idle()

    assert 1 <= sum(span.name == "send Talks.ask" for span in kept.spans) <= 3


async def test_what_fails_is_traced_from_there_on() -> None:
    kept = Kept()
    line = Line(Talks, tracing=kept.tracing(0))

    await through(line, -1)

    failed = kept.named("process Talks.ask")
    assert (failed.error, failed.detail) == ("Reject", "below zero")
    assert failed.trace == failed.attributes["messaging.message.conversation_id"]
    assert failed.attributes["rolekit.outcome"] == "dead"


async def test_what_nobody_traced_is_handed_in_when_it_is_wanted_after_all() -> None:
    kept = Kept()
    tracing = kept.tracing(0)
    line = Line(Talks, tracing=tracing)
    request = Untraced("POST /ask", 5)
    request.ended_ns = 9
    async with working(line):
        token = current.set(request)
        other = await line.client.send(Ask(n=1))
        wanted = await line.client.send(Ask(n=2))
        current.reset(token)
        await line.idle()
        assert kept.spans == []

        for _ in range(2):  # it is asked for by many, and hands in once
            tracing.memory.recall([Recall(wanted.id, "ab" * 16)])

        names = [span.name for span in kept.spans]
        assert sorted(names) == [
            "POST /ask", "process Talks.ask", "process Talks.told", "send Talks.ask",
            "send Talks.told",
        ]  # fmt: skip
        above = {span.id: span.name for span in kept.spans}
        assert {span.name: above.get(span.parent) for span in kept.spans} == {
            "POST /ask": None,
            "send Talks.ask": "POST /ask",
            "process Talks.ask": "send Talks.ask",
            "send Talks.told": "process Talks.ask",
            "process Talks.told": "send Talks.told",
        }
        assert {span.trace for span in kept.spans} == {"ab" * 16}
        assert other.id not in {span.message for span in kept.spans}


async def test_what_is_under_way_when_it_is_wanted_and_what_comes_later_is_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remembered, "MORE", 2)
    kept = Kept()
    tracing = kept.tracing(0)
    line = Line(Talks, tracing=tracing)

    def want() -> None:
        hand = in_hand.get()
        assert hand is not None
        assert hand.packet is not None
        tracing.memory.recall([Recall(hand.packet.id, "cd" * 16)])

    line.role.on_ask = want
    await through(line, 1)

    names = {span.name: "rolekit.remembered" in span.attributes for span in kept.spans}
    assert names == {
        "send Talks.ask": True,
        "process Talks.ask": True,
        "send Talks.told": True,
        "process Talks.told": False,  # as it happened
    }
    assert tracing.wanted[kept.named("process Talks.ask").message] == ("cd" * 16, 0)


async def test_what_is_remembered_is_bounded_in_number_and_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(share, "REACH_S", 0.0)  # of all traces, however many come
    monkeypatch.setattr(remembered, "MOST", 2)
    monkeypatch.setattr(remembered, "CHUNKS", 2)
    monkeypatch.setattr(remembered, "CHUNK", 3)
    kept = Kept()
    tracing = kept.tracing(0)
    line = Line(Splits, tracing=tracing)

    async with working(line):
        first = await line.client.send(Ask(n=9))
        await line.idle()
        roots = [first.id, *[one.id for one in await line.client.send_many([Ask(n=0)] * 2)]]
        await line.idle()
        tracing.memory.recall(Recall(root, "ab" * 16) for root in roots)

    sends = [span for span in kept.spans if span.name == "send Splits.told"]
    assert len(sends) == 6  # of nine: what came last
    assert sum(span.name == "process Splits.ask" for span in kept.spans) == 2
    kept.spans.clear()
    monkeypatch.setattr(remembered, "KEPT_S", 0.0)
    tracing.wanted.clear()
    tracing.memory.recall(Recall(root, "ab" * 16) for root in roots)
    assert kept.spans == []


async def test_a_step_that_is_slow_is_traced_with_when_it_began() -> None:
    kept = Kept()
    tracing = kept.tracing(0)
    tracing.slow_s = 1e9
    line = Line(Talks, tracing=tracing)
    line.role.on_ask = lambda: setattr(tracing, "slow_s", 0.0)  # it is found slow at its end

    await through(line, 1)

    ask = kept.named("process Talks.ask")
    assert ask.is_slow
    assert ask.begun_ns < ask.ended_ns


async def test_spans_of_a_message_are_known_before_its_output_leaves() -> None:
    kept = Kept()
    line = Line(Talks, tracing=kept.tracing(1))
    seen: list[tuple[str, bool]] = []
    publish = line.transport.forward

    async def forward(subscription: object, pairs: list[tuple[object, object]]) -> None:
        for _, packet in pairs:
            if packet is not None:
                context = context_of(decode_head(packet.head).headers["traceparent"])  # type: ignore[attr-defined]
                assert context is not None
                known = {span.id for span in kept.began}
                seen.append((context.span, context.span in known))
        await publish(subscription, pairs)  # type: ignore[arg-type]

    line.transport.forward = forward  # type: ignore[method-assign,assignment]
    await through(line, 1)

    assert seen
    assert all(is_known for _, is_known in seen)


async def test_spans_of_the_app_itself_are_below_the_attempt_and_above_what_it_sends() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    kept = Kept()
    line = Line(Talks, tracing=kept.tracing(1))
    tracer = provider.get_tracer("app")
    line.role.on_ask = lambda: tracer.start_span("looked up").end()

    async with working(line):
        with tracer.start_as_current_span("a request of the app"):
            await line.client.send(Ask(n=1))
        await line.idle()

    looked_up, request = exporter.get_finished_spans()[::-1]
    if looked_up.name != "looked up":
        looked_up, request = request, looked_up
    ask = kept.named("process Talks.ask")
    assert looked_up.parent is not None
    assert f"{looked_up.parent.span_id:016x}" == ask.id
    assert request.context is not None
    assert kept.named("send Talks.ask").parent == f"{request.context.span_id:016x}"
    assert ask.trace == f"{request.context.trace_id:032x}"


@pytest.mark.parametrize(
    ("header", "is_context"),
    [
        (THEIRS, True),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", True),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", False),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", False),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_contexts_are_read_as_the_standard_wants(header: str, *, is_context: bool) -> None:
    assert (context_of(header) is not None) is is_context


def test_the_cheap_look_never_misses_what_is_sampled() -> None:
    for flags in range(256):
        header = f"{THEIRS[:-2]}{flags:02x}"
        context = context_of(header)

        assert context is not None
        assert may_be_sampled(header) or not context.is_sampled


def test_a_context_reads_what_it_wrote() -> None:
    context = TraceContext("ab" * 16, "cd" * 8, is_sampled=True)

    assert context_of(context.header()) == context


def test_a_span_is_handed_on_as_it_stood_when_it_began() -> None:
    handed: list[Span] = []
    tracer = Tracer(handed.append, Sampling(), role="Work", instance="Work/0")

    live = Live(tracer, "process Work.do", SpanKind.CONSUMER, trace="ab" * 16).begin()
    live.failed(ValueError("no \udcff\0"))
    live.end(7)
    live.end(8)

    assert [(span.ended_ns, span.error, span.detail) for span in handed] == [
        (0, "", ""),
        (7, "ValueError", "no \\udcff\\x00"),
    ]


@pytest.mark.parametrize("has_it", [True, False])
def test_only_an_app_with_opentelemetry_sees_the_span_of_its_message(
    monkeypatch: pytest.MonkeyPatch, *, has_it: bool
) -> None:
    if not has_it:
        monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with within(TraceContext("ab" * 16, "cd" * 8, is_sampled=True)):
        seen = get_current_span().get_span_context()

    assert f"{seen.span_id:016x}" == ("cd" * 8 if has_it else "0" * 16)
