"""What a trace is made of: spans, and the context that one hands to the next.

Source: W3C Trace Context, 2.2 (traceparent) and 3 (tracestate); OpenTelemetry, spans.
"""

from __future__ import annotations

import re
from enum import IntEnum
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from rolekit.model.position import Path

TRACEPARENT, TRACESTATE, BAGGAGE = "traceparent", "tracestate", "baggage"
PROPAGATED = (TRACEPARENT, TRACESTATE, BAGGAGE)
"""Headers that carry a trace from program to program."""
NO_TRACE, NO_SPAN = "0" * 32, "0" * 16
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ODD = frozenset("13579bdf")
_SAMPLED = 1
_UNKNOWN_VERSION = "ff"


class SpanKind(IntEnum):
    """Numbered as in OTLP."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Span(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """Something that took a while, as part of a trace.

    Attributes:
        trace: 32 hexadecimal digits.
        id: 16 hexadecimal digits.
        parent: Id of the span that caused it; empty for the first of a trace.
        name: What was done, with what.
        kind: As OpenTelemetry has it.
        begun_ns: Nanoseconds since 1970.
        ended_ns: Likewise; 0: it is still under way.
        role: Name of the role, or of the program.
        instance: Name of the instance.
        message: Id of the message that it is about, or empty.
        error: Type of what went wrong, or empty.
        detail: What went wrong, in words.
        is_slow: It, or what came before it, took longer than is thought right.
        attributes: By their OpenTelemetry names.
        links: Other spans that it follows from: (trace, id).
        is_late: Its trace is kept from here on, and what came before is asked for.
    """

    trace: str
    id: str
    parent: str = ""
    name: str
    kind: SpanKind = SpanKind.INTERNAL
    begun_ns: int
    ended_ns: int = 0
    role: str = ""
    instance: str = ""
    message: str = ""
    error: str = ""
    detail: str = ""
    is_slow: bool = False
    attributes: dict[str, str | int | float | bool] = {}
    links: tuple[tuple[str, str], ...] = ()
    is_late: bool = False

    @property
    def seconds(self) -> float:
        """How long it took; 0 while it is under way."""
        return max(self.ended_ns - self.begun_ns, 0) / 1e9 if self.ended_ns else 0.0


class Recall(msgspec.Struct, frozen=True):
    """A trace that is kept after all: whoever remembers something of it hands that in.

    Attributes:
        root: Id of the message from outside that everything in it came of.
        trace: Its id.
    """

    root: str
    trace: str


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """Which span caused something, and whether its trace is kept.

    A struct, as spans are: a frozen dataclass takes five times as long to make.
    """

    trace: str
    span: str
    is_sampled: bool

    def header(self) -> str:
        """Write it as a `traceparent`."""
        return f"00-{self.trace}-{self.span}-{'01' if self.is_sampled else '00'}"


def context_of(header: str) -> TraceContext | None:
    """Read a `traceparent`; None where it is none, as the standard wants."""
    found = _TRACEPARENT.fullmatch(header)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == _UNKNOWN_VERSION or (version == "00" and more):
        return None
    if trace == NO_TRACE or span == NO_SPAN:
        return None
    return TraceContext(trace, span, bool(int(flags, 16) & _SAMPLED))


def may_be_sampled(header: str) -> bool:
    """Say cheaply whether a `traceparent` may belong to a trace that is kept."""
    return header[-1:] in _ODD


def span_at(sequence: str, path: Path) -> str:
    """Name the span that closed a position, so that whoever releases it can link to it."""
    digest = blake2b(sequence.encode(), digest_size=8)
    for index in path:
        digest.update(index.to_bytes(8, "big"))
    return digest.hexdigest()


def send_of(message: str, queue: str) -> str:
    """Name the span that sent a message, where nobody traced it when it was sent.

    Whoever sent it and whoever has it come to the same, without a word between them.
    """
    return blake2b(f"{message} {queue}".encode(), digest_size=8).hexdigest()
