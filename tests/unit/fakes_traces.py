"""Traces of requests that are made up: to a front, split in three, delivered."""

from __future__ import annotations

import msgspec

from rolekit.model.span import Span, SpanKind

MS = 1_000_000
NOON_NS = 1_767_268_800 * 1_000_000_000
FRONT_MS, SPLIT_MS, HANDLER_MS, COMMIT_MS = 2, 5, 10, 4


def message_of(number: int) -> str:
    """Name the message that a request sends first."""
    return f"{number:028x}ffff"


def trace_of(number: int) -> str:
    """Name the trace of a request."""
    return f"{number + 1:031x}f"


def request(
    number: int, *, at_s: float, queue_ms: int, start_ns: int = NOON_NS, is_late: bool = False
) -> list[Span]:
    """Make the spans of one request, whose parts wait in the queue of the last role.

    Args:
        number: Of the request.
        at_s: When it began, from the start.
        queue_ms: How long the parts wait.
        start_ns: When the run began.
        is_late: Only what comes after the queue is traced, since it was slow.
    """
    trace, begun = trace_of(number), start_ns + int(at_s * 1e9)
    ids = {name: f"{number:08x}{place:08x}" for place, name in enumerate("abcdefg")}

    def span(id_: str, name: str, kind: SpanKind, from_ms: float, to_ms: float) -> Span:
        parent = {"b": "a", "c": "b", "d": "c", "e": "d", "f": "d", "g": "d"}.get(id_)
        is_step = kind is SpanKind.CONSUMER
        took = {"c": SPLIT_MS - COMMIT_MS}.get(id_, HANDLER_MS) / 1000
        queue = name.partition(" ")[2]
        return Span(
            trace=trace, id=ids[id_], parent=ids[parent] if parent else "", name=name,
            kind=kind, begun_ns=begun + int(from_ms * MS), ended_ns=begun + int(to_ms * MS),
            instance=f"{queue.partition('.')[0]}/0",
            message="" if id_ == "a" else message_of(number) if id_ in "bc"
            else f"{number:028x}{'defg'.index(id_) + 1:04x}",
            attributes={
                "messaging.destination.template": queue,
                "messaging.message.conversation_id": message_of(number),
            }
            | ({"rolekit.handler.duration": took} if is_step else {}),
        )  # fmt: skip

    split_ms = FRONT_MS + SPLIT_MS
    ready_ms = split_ms + queue_ms
    ended_ms = ready_ms + HANDLER_MS + COMMIT_MS
    late = [
        span(id_, "process Deliverer.deliver", SpanKind.CONSUMER, ready_ms, ended_ms - offset)
        for offset, id_ in enumerate("gfe")
    ]
    if is_late:
        return [msgspec.structs.replace(one, parent="") for one in late]
    return [
        *late,
        span("a", "POST /mail", SpanKind.SERVER, 0, FRONT_MS),
        span("b", "send Splitter.split", SpanKind.PRODUCER, 1, FRONT_MS),
        span("c", "process Splitter.split", SpanKind.CONSUMER, FRONT_MS, split_ms),
        span("d", "send Deliverer.deliver", SpanKind.PRODUCER, FRONT_MS + 1, split_ms),
    ]
