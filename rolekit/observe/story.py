"""What happened to a message, told from spans: a tree, where the time went, and why.

The time from the begin of a trace to the outcome of a message is cut into pieces, found
backwards from its end: what a step waited for came before it. A release waited for the part
that came last; a part that came early was held until its release.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolekit.model.span import Span, SpanKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

INTAKE, QUEUE, HANDLER, COMMIT, PUBLISH = "intake", "queue", "handler", "commit", "publish"
HOLE, RETRY, DELAY, CRASH = "hole", "retry", "delay", "crash"
STAGES: tuple[str, ...] = (INTAKE, QUEUE, HANDLER, COMMIT, PUBLISH, HOLE, RETRY, DELAY, CRASH)
DIED = "InstanceDied"
_UNDER_WAY = (SpanKind.CONSUMER, SpanKind.PRODUCER)


@dataclass(slots=True)
class Node:
    """A span with those that it caused, in the order in which they began."""

    span: Span
    children: list[Node] = field(default_factory=list["Node"])

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Node]]:
        """Yield it and all below it, with their depth."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of time on the way of a message.

    Attributes:
        stage: One of `STAGES`.
        seconds: How long.
        where: Name of a handler, or of what was asked for.
        detail: What an operator should know of it, or empty.
        at_ns: When it began.
    """

    stage: str
    seconds: float
    where: str
    detail: str = ""
    at_ns: int = 0


def tree(spans: Iterable[Span]) -> list[Node]:
    """Put spans in order; those whose parent is not there stand at the top."""
    nodes = {span.id: Node(span) for span in sorted(spans, key=lambda span: span.begun_ns)}
    roots: list[Node] = []
    for node in nodes.values():
        above = nodes.get(node.span.parent)
        (roots if above is None else above.children).append(node)
    return roots


def first_message(spans: Iterable[Span]) -> str:
    """Return the id of the message that began a trace, or nothing."""
    named = [span for span in spans if span.message]
    return min(named, key=lambda span: span.begun_ns).message if named else ""


def totals(pieces: Iterable[Piece]) -> dict[str, float]:
    """Add up the seconds of each stage, all stages in their order."""
    found = dict.fromkeys(STAGES, 0.0)
    for piece in pieces:
        found[piece.stage] += piece.seconds
    return found


def cause_of(pieces: Sequence[Piece]) -> Piece | None:
    """Return the longest piece of the stage that took most; None: there are no pieces."""
    sums = totals(pieces)
    most = max(sums, key=lambda stage: sums[stage])
    of_it = [piece for piece in pieces if piece.stage == most]
    return max(of_it, key=lambda piece: piece.seconds, default=None)


def way_of(spans: Sequence[Span], message: str, now_ns: int) -> list[Piece]:
    """Cut the time up to the outcome of a message into pieces, in order.

    Args:
        spans: Of its trace.
        message: Its id; of the message that began the trace: up to the end of all.
        now_ns: For what is still under way.

    Returns:
        The pieces; none where no span is about the message.
    """
    return _Story(spans, now_ns).of(message)


class _Story:
    """The spans of one trace, by what is asked of them."""

    def __init__(self, spans: Sequence[Span], now_ns: int) -> None:
        self._spans = spans
        self._now_ns = now_ns
        self._by_id = {span.id: span for span in spans}
        self._below: dict[str, list[Span]] = {}
        for span in spans:
            self._below.setdefault(span.parent, []).append(span)
        commits = [span for span in spans if span.name == "commit"]
        self._recorded = {id_ for one in commits for id_ in (one.parent, *_linked(one))}

    def of(self, message: str) -> list[Piece]:
        end = self._end_of(message)
        if end is None:
            return []
        pieces = self._after(end)
        seen: set[str] = set()
        step: Span | None = end
        while step is not None and step.id not in seen:
            seen.add(step.id)
            pieces = [*self._own(step), *pieces]
            before = self._before(step)
            if before is not None:
                pieces = [*self._between(before, step), *pieces]
            step = before
        return [piece for piece in pieces if piece.seconds > 0]

    # -- the end -----------------------------------------------------------------------------

    def _end_of(self, message: str) -> Span | None:
        found = [span for span in self._spans if span.message == message]
        if any(_root(span) == message for span in found):
            found = list(self._spans)
        steps = [span for span in found if span.kind in _UNDER_WAY and self._is_end(span)]
        return max(steps, key=lambda span: (span.ended_ns or self._now_ns, span.begun_ns),
                   default=None)  # fmt: skip

    def _is_end(self, span: Span) -> bool:
        if span.kind is SpanKind.CONSUMER:
            return span.error != DIED or not self._came_again(span)
        is_inside = not str(span.attributes.get("messaging.destination.template")).startswith(
            "~"
        )
        return is_inside and not self._taken(span)

    def _taken(self, send: Span) -> list[Span]:
        below = self._below.get(send.id, [])
        return [one for one in below if one.kind is SpanKind.CONSUMER]

    def _came_again(self, died: Span) -> bool:
        again = self._below.get(died.parent, [])
        return any(o.message == died.message and o.begun_ns > died.begun_ns for o in again)

    def _after(self, end: Span) -> list[Piece]:
        """Say what came after the last step: its commit, and what holds its result."""
        if end.kind is SpanKind.PRODUCER:
            return self._waiting(end)
        if not end.ended_ns:
            return []
        name, done_ns = _handler(end), _handled_ns(end)
        pieces = [_piece(COMMIT, name, done_ns, end.ended_ns)]
        stored = [one for one in self._below.get(end.id, []) if one.name == "store"]
        release = min(
            (span for span in self._spans if any(one.id in _linked(span) for one in stored)),
            key=lambda span: span.begun_ns,
            default=None,
        )
        if stored and release is not None:
            pieces.append(self._held(end, release))
        elif stored:
            where = "its sequence"
            pieces.append(_piece(HOLE, where, end.ended_ns, self._now_ns, "not released yet"))
        return pieces

    def _held(self, end: Span, release: Span) -> Piece:
        """Say which part a release waited for."""
        parts = [self._by_id[id_] for id_ in _linked(release) if id_ in self._by_id]
        last = max(parts, key=lambda part: part.begun_ns)
        own = self._by_id.get(last.parent)
        detail = f"position {last.attributes.get('rolekit.position', '?')} came last"
        if own is not None and own.id != end.id:
            cause = cause_of(way_of(self._spans, own.message, self._now_ns))
            # Its own way ends with a hold too, where others were later still.
            if cause is not None and cause.stage != HOLE:
                detail += f": {cause.stage} of {cause.where}"
                detail += f", {cause.detail}" if cause.detail else ""
        return _piece(HOLE, _handler(release), end.ended_ns, release.begun_ns, detail)

    def _waiting(self, send: Span) -> list[Piece]:
        """Say what a message waits for that nobody has begun with."""
        where = str(send.attributes.get("messaging.destination.template", "?"))
        due_ns = _due_ns(send)
        pieces = [_piece(self._settling(send), where, send.begun_ns, send.ended_ns)]
        if due_ns:
            pieces.append(self._planned(send, where, min(due_ns, self._now_ns)))
        waits_ns = max(send.ended_ns, due_ns)
        if send.ended_ns and self._now_ns > waits_ns:
            why = "nobody has begun with it"
            pieces.append(_piece(QUEUE, where, waits_ns, self._now_ns, why))
        return pieces

    # -- backwards ---------------------------------------------------------------------------

    def _before(self, span: Span) -> Span | None:
        """Return what a step waited for: of a release, the part that came last."""
        if span.kind is SpanKind.CONSUMER:
            parts = [self._by_id[id_] for id_ in _linked(span) if id_ in self._by_id]
            if parts:
                return max(parts, key=lambda part: part.begun_ns)
        return self._by_id.get(span.parent)

    def _own(self, span: Span) -> list[Piece]:
        """Say what a step itself took."""
        if span.kind is not SpanKind.CONSUMER:
            return []
        said = f"{span.error}: {span.detail}" if span.error else ""
        if not span.ended_ns:
            said = f"in hand of {span.instance}"
        done_ns = _handled_ns(span) or span.ended_ns or self._now_ns
        stage = CRASH if span.error == DIED else HANDLER
        return [_piece(stage, _handler(span), span.begun_ns, done_ns, said)]

    def _between(self, before: Span, after: Span) -> list[Piece]:
        """Say what the time between two steps was."""
        if before.kind is SpanKind.PRODUCER:
            return self._queued(before, after)
        if before.name == "store":
            step = self._by_id.get(before.parent)
            ready_ns = before.ended_ns if step is None else step.ended_ns or before.ended_ns
            ready_ns = min(ready_ns, after.begun_ns)
            return [
                _piece(
                    COMMIT, "" if step is None else _handler(step), before.ended_ns, ready_ns
                ),
                _piece(QUEUE, _handler(after), ready_ns, after.begun_ns),
            ]
        if before.kind is SpanKind.SERVER:
            return [_piece(INTAKE, before.name, before.begun_ns, after.begun_ns)]
        return []

    def _queued(self, send: Span, step: Span) -> list[Piece]:
        """Say what a message waited for between its send and its attempt."""
        where = _handler(step)
        ready_ns = min(send.ended_ns or step.begun_ns, step.begun_ns)
        pieces = [_piece(self._settling(send), where, send.begun_ns, ready_ns)]
        due_ns = min(_due_ns(send), step.begun_ns)
        if due_ns > ready_ns:
            pieces.append(self._planned(send, where, due_ns))
            ready_ns = due_ns
        for died in self._died(send, step):
            pieces.append(_piece(QUEUE, where, ready_ns, died.begun_ns))
            ready_ns = max(ready_ns, died.begun_ns)
            detail = f"{died.instance} died with it in hand. {died.detail}"
            pieces.append(_piece(CRASH, where, ready_ns, step.begun_ns, detail))
            ready_ns = step.begun_ns
        stage, said = QUEUE, ""
        if "rolekit.suspect" in step.attributes:
            stage, said = CRASH, "an instance died that had it in hand"
        elif "rolekit.redelivered" in step.attributes:
            said = "it was handed out before"
        pieces.append(_piece(stage, where, ready_ns, step.begun_ns, said))
        return pieces

    def _died(self, send: Span, step: Span) -> list[Span]:
        """Return the first attempt that died before this one, of the same message."""
        died = [
            one
            for one in self._below.get(send.id, [])
            if one.error == DIED
            and one.message == step.message
            and one.begun_ns < step.begun_ns
        ]
        return sorted(died, key=lambda one: one.begun_ns)[:1]

    def _planned(self, send: Span, where: str, until_ns: int) -> Piece:
        """Say why a message was to come later."""
        cause = self._by_id.get(send.parent)
        if cause is not None and cause.error:
            tried = cause.attributes.get("rolekit.attempt", 1)
            why = f"attempt {tried} failed with {cause.error}: {cause.detail}"
            return _piece(RETRY, where, send.begun_ns, until_ns, why)
        why = str(send.attributes.get("rolekit.due_why", "it was sent for later"))
        return _piece(DELAY, where, send.begun_ns, until_ns, why)

    def _settling(self, send: Span) -> str:
        return COMMIT if send.parent in self._recorded else PUBLISH


def _piece(stage: str, where: str, from_ns: int, to_ns: int, detail: str = "") -> Piece:
    seconds = max(to_ns - from_ns, 0) / 1e9
    return Piece(stage=stage, seconds=seconds, where=where, detail=detail, at_ns=from_ns)


def _linked(span: Span) -> list[str]:
    return [id_ for _, id_ in span.links]


def _root(span: Span) -> object:
    return span.attributes.get("messaging.message.conversation_id")


def _handler(span: Span) -> str:
    return str(span.attributes.get("messaging.destination.template", span.name))


def _handled_ns(span: Span) -> int:
    """Return when the handler of a step was done; 0: it is not."""
    took = span.attributes.get("rolekit.handler.duration")
    return 0 if took is None else span.begun_ns + round(float(took) * 1e9)


def _due_ns(send: Span) -> int:
    return int(send.attributes.get("rolekit.due_ms", 0)) * 1_000_000
