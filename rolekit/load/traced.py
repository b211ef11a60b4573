"""What the traces of a run say: where its time went, and how its slowest requests went. Pure.

Only traces that are kept from their begin are counted: one that is kept since it failed or was
slow lacks what came before, and those are no fair sample either. They are still looked at for
how the slowest requests went.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from rolekit.model.span import Span, SpanKind
from rolekit.observe.story import (
    COMMIT,
    CRASH,
    DIED,
    HANDLER,
    INTAKE,
    PUBLISH,
    QUEUE,
    STAGES,
    Node,
    Piece,
    cause_of,
    first_message,
    totals,
    tree,
    way_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_BARS = 40
"""So many times at most does the plot of stages show."""
_SLOWEST = 6
_ROWS, _ALIKE = 40, 3
_PLACES = 8
_US = 1_000_000


class Stages(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of traced requests went that began within some seconds.

    Attributes:
        at_s: Since when, in seconds from the start.
        traces: How many began since then.
        us: Microseconds of each stage, on average.
    """

    at_s: float
    traces: int
    us: dict[str, float]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A stage at one handler: how much of a request's time it took, on average."""

    stage: str
    where: str
    us: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a waterfall.

    Attributes:
        parts: Stage, begin and length in microseconds, from the begin of the trace.
        note: What went wrong, or how many it stands for.
    """

    name: str
    depth: int
    instance: str
    parts: list[tuple[str, int, int]]
    note: str = ""
    is_wrong: bool = False


class Waterfall(msgspec.Struct, frozen=True, kw_only=True):
    """How a request went.

    Attributes:
        at_s: When it began, in seconds from the start.
        took_us: Until all that it caused was done.
        way: What it waited for, in order: stage, begin and length in microseconds, where.
        cause: The longest of what took most.
        is_over: All of it had ended when it was read.
        left_out: Lines that are not shown.
    """

    trace: str
    message: str
    at_s: float
    took_us: int
    way: list[tuple[str, int, int, str]]
    cause: Piece | None
    rows: list[Row]
    spans: int
    is_over: bool = True
    left_out: int = 0


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """What the traces of a run say.

    Attributes:
        traces: How many are counted.
        bar_s: Seconds that each of `stages` is about.
        places: Those that took most, the first first.
        slowest: Of all that were looked at.
    """

    traces: int
    bar_s: float
    stages: list[Stages]
    mean_us: dict[str, float]
    places: list[Place]
    slowest: list[Waterfall]


@dataclass(slots=True)
class Telling:
    """Takes traces one by one, and keeps no more of them than is told.

    Args:
        start_ns: When the run began, nanoseconds since 1970.
        for_s: How long requests were due.
        warm_up_s: What began in so many first seconds is not counted.
        messages: Ids that the app gave to requests.
        started: Traces that requests began by themselves. With neither, all traces count.
        now_ns: For what is still under way.
    """

    start_ns: int
    for_s: float
    warm_up_s: float
    messages: Collection[str]
    started: Collection[str]
    now_ns: int
    _counts: dict[int, int] = field(default_factory=dict[int, int])
    _sums: dict[int, dict[str, float]] = field(default_factory=dict[int, dict[str, float]])
    _places: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    _slowest: list[tuple[int, str, Sequence[Span]]] = field(
        default_factory=list[tuple[int, str, "Sequence[Span]"]]
    )

    @property
    def bar_s(self) -> float:
        """How many seconds each bar is about: whole ones."""
        return max(1, math.ceil(self.for_s / _BARS))

    def take(self, spans: Sequence[Span]) -> None:
        """Take the spans of one trace."""
        message = first_message(spans)
        if not message or not self._is_ours(spans):
            return
        at_s = (min(span.begun_ns for span in spans) - self.start_ns) / 1e9
        if not self.warm_up_s <= at_s <= self.for_s:
            return
        pieces = way_of(spans, message, self.now_ns)
        took_s = sum(piece.seconds for piece in pieces)
        slow = (round(took_s * _US), spans[0].trace, spans)
        heapq.heappush(self._slowest, slow)
        if len(self._slowest) > _SLOWEST:
            heapq.heappop(self._slowest)
        if _is_whole(spans) and all(span.ended_ns for span in spans):
            self._count(int(at_s // self.bar_s), pieces)

    def _is_ours(self, spans: Sequence[Span]) -> bool:
        if not self.messages and not self.started:
            return True
        return spans[0].trace in self.started or any(
            span.message in self.messages for span in spans
        )

    def _count(self, bar: int, pieces: Sequence[Piece]) -> None:
        self._counts[bar] = self._counts.get(bar, 0) + 1
        sums = self._sums.setdefault(bar, dict.fromkeys(STAGES, 0.0))
        for stage, seconds in totals(pieces).items():
            sums[stage] += seconds
        for piece in pieces:
            place = (piece.stage, piece.where)
            self._places[place] = self._places.get(place, 0.0) + piece.seconds

    def told(self) -> Traced:
        """Say what they say together."""
        traces = sum(self._counts.values())
        mean_us = dict.fromkeys(STAGES, 0.0)
        for sums in self._sums.values():
            for stage, seconds in sums.items():
                mean_us[stage] += seconds * _US / traces
        places = sorted(self._places.items(), key=lambda one: one[1], reverse=True)
        return Traced(
            traces=traces,
            bar_s=self.bar_s,
            stages=[
                Stages(
                    at_s=bar * self.bar_s,
                    traces=count,
                    us={s: t * _US / count for s, t in self._sums[bar].items()},
                )
                for bar, count in sorted(self._counts.items())
            ],
            mean_us=mean_us,
            places=[
                Place(stage=stage, where=where, us=seconds * _US / traces)
                for (stage, where), seconds in places[:_PLACES]
            ],
            slowest=[
                self._waterfall(spans, took_us)
                for took_us, _, spans in sorted(self._slowest, reverse=True)
            ],
        )

    def _waterfall(self, spans: Sequence[Span], took_us: int) -> Waterfall:
        message = first_message(spans)
        begun_ns = min(span.begun_ns for span in spans)
        pieces = way_of(spans, message, self.now_ns)
        rows = list(_rows(spans, begun_ns, self.now_ns))
        return Waterfall(
            trace=spans[0].trace,
            message=message,
            at_s=(begun_ns - self.start_ns) / 1e9,
            took_us=took_us,
            way=[
                (p.stage, (p.at_ns - begun_ns) // 1000, round(p.seconds * _US), p.where)
                for p in pieces
            ],
            cause=cause_of(pieces),
            rows=rows[:_ROWS],
            spans=len(spans),
            is_over=all(span.ended_ns for span in spans),
            left_out=len(rows[_ROWS:]),
        )


def _is_whole(spans: Sequence[Span]) -> bool:
    """Whether a trace was kept from its begin, rather than since something in it was wrong."""
    first = min(spans, key=lambda span: span.begun_ns)
    return first.kind is not SpanKind.CONSUMER or bool(first.parent)


def _rows(spans: Sequence[Span], begun_ns: int, now_ns: int) -> Iterator[Row]:
    """Draw a trace; of those alike below one span, the first few and how many more."""
    by_id = {span.id: span for span in spans}
    for root in tree(spans):
        yield from _below(root, 0, by_id, (begun_ns, now_ns))


def _below(
    node: Node, depth: int, by_id: dict[str, Span], times_ns: tuple[int, int]
) -> Iterator[Row]:
    yield _row(node.span, depth, by_id, times_ns)
    alike: dict[str, list[Node]] = {}
    for child in node.children:
        alike.setdefault(child.span.name, []).append(child)
    for child in node.children:
        of_it = alike[child.span.name]
        # The last to end is what the rest waited for, so it is not left out.
        shown = of_it if len(of_it) <= _ALIKE else [*of_it[: _ALIKE - 1], _last(of_it)]
        if any(child is one for one in shown):
            yield from _below(child, depth + 1, by_id, times_ns)
        if child is of_it[-1] and len(of_it) > len(shown):
            yield Row(
                name=f"{len(of_it) - len(shown):,} more: {child.span.name}",
                depth=depth + 1,
                instance="",
                parts=[],
            )


def _last(nodes: Sequence[Node]) -> Node:
    return max(nodes, key=lambda one: max(n.span.ended_ns for _, n in one.walk()))


def _row(span: Span, depth: int, by_id: dict[str, Span], times_ns: tuple[int, int]) -> Row:
    begun_ns, now_ns = times_ns
    parts = [
        (stage, (from_ns - begun_ns) // 1000, (to_ns - from_ns) // 1000)
        for stage, from_ns, to_ns in _parts(span, by_id, now_ns)
        if to_ns > from_ns
    ]
    count = span.attributes.get("messaging.batch.message_count")
    notes = [f"{count} messages"] if count and count != 1 else []
    if span.error:
        notes.append(f"{span.error}: {span.detail}")
    return Row(
        name=span.name,
        depth=depth,
        instance=span.instance,
        parts=parts,
        note=", ".join(notes),
        is_wrong=bool(span.error),
    )


def _parts(span: Span, by_id: dict[str, Span], now_ns: int) -> Iterator[tuple[str, int, int]]:
    """Cut the time of a span, and that before it, into stages: stage, begin, end."""
    ended_ns = span.ended_ns or now_ns
    if span.kind is SpanKind.SERVER:
        yield INTAKE, span.begun_ns, ended_ns
    elif span.kind is SpanKind.PRODUCER:
        yield PUBLISH, span.begun_ns, ended_ns
    elif span.kind is SpanKind.CONSUMER:
        sent = by_id.get(span.parent)
        if sent is not None and sent.kind is SpanKind.PRODUCER and sent.ended_ns:
            due_ns = int(sent.attributes.get("rolekit.due_ms", 0)) * 1_000_000
            yield QUEUE, max(sent.ended_ns, due_ns), span.begun_ns
        took = span.attributes.get("rolekit.handler.duration")
        done_ns = ended_ns if took is None else span.begun_ns + round(float(took) * 1e9)
        yield CRASH if span.error == DIED else HANDLER, span.begun_ns, done_ns
        yield COMMIT, done_ns, ended_ns
    elif span.name == "commit":
        yield COMMIT, span.begun_ns, ended_ns
