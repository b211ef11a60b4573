"""Spans of one process: which traces are kept, and where spans go.

Whether a trace is kept is decided once, where it begins. Of all that begin, a share is kept,
and the first of each second, so that a quiet app is seen whole. What failed or was slow is
kept from there on, whatever was decided, a few a second.

A span is shipped when it begins and again when it ends. Who collects spans outlives this
process, so a span that others refer to is there even if its process is killed.
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import structs

from rolekit.errors import storable
from rolekit.model.span import Span, SpanKind, TraceContext

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

FIRST_PER_S = 1
"""So many traces that begin in a second are kept, whatever the share."""
LATE_PER_S = 10
"""So many messages a second are traced from where they failed or were found slow."""

Value = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which traces are kept.

    Attributes:
        ratio: Share of those that begin here, 0 to 1.
        slow_s: What takes longer, in a queue or in a handler, is kept.
        first_per_s: So many that begin in a second are kept in any case.
    """

    ratio: float = 0.01
    slow_s: float = 1.0
    first_per_s: int = FIRST_PER_S


class Live:
    """A span that is under way; `end` ends it, once.

    Attributes:
        span: As it stands now.
    """

    __slots__ = ("_tracer", "span")

    def __init__(  # noqa: PLR0913 - a span has so much
        self,
        tracer: Tracer,
        name: str,
        kind: SpanKind,
        *,
        trace: str,
        parent: str = "",
        id_: str = "",
        message: str = "",
        begun_ns: int = 0,
        attributes: dict[str, Value] | None = None,
        links: tuple[tuple[str, str], ...] = (),
        is_slow: bool = False,
        is_late: bool = False,
    ) -> None:
        self._tracer = tracer
        self.span = Span(
            trace=trace,
            id=id_ or new_span_id(),
            parent=parent,
            name=name,
            kind=kind,
            begun_ns=begun_ns or tracer.now_ns(),
            role=tracer.role,
            instance=tracer.instance,
            message=message,
            is_slow=is_slow,
            attributes={} if attributes is None else attributes,
            links=links,
            is_late=is_late,
        )

    @property
    def context(self) -> TraceContext:
        """What those are given that it causes."""
        return TraceContext(self.span.trace, self.span.id, is_sampled=True)

    def failed(self, error: BaseException) -> None:
        """Note what went wrong."""
        self.span.error, self.span.detail = type(error).__name__, storable(str(error)[:500])

    def begin(self) -> Live:
        """Let it be known from now on."""
        self._tracer.ship(structs.replace(self.span))  # a copy, since this one changes
        return self

    def end(self, ended_ns: int = 0) -> None:
        """End it now, or then; a second time does nothing."""
        if not self.span.ended_ns:
            self.span.ended_ns = ended_ns or self._tracer.now_ns()
            self._tracer.ship(self.span)


class Tracer:
    """What the spans of one process have in common, and which of them are kept.

    Args:
        ship: Takes each span as it stands when it begins and when it ends; must not block or
            raise.
        sampling: Which are kept; may be replaced at any time.
        role: Of this process.
        instance: Its name.
    """

    def __init__(
        self, ship: Callable[[Span], None], sampling: Sampling, *, role: str, instance: str
    ) -> None:
        self.ship = ship
        self.sampling = sampling
        self.role = role
        self.instance = instance
        self.now_ns = time.time_ns
        self._first = Allowance(sampling.first_per_s)
        self._late = Allowance(LATE_PER_S)

    def begins(self) -> bool:
        """Decide whether a trace that begins now is kept."""
        return random.random() < self.sampling.ratio or self._first.take()  # noqa: S311

    def keeps_late(self) -> bool:
        """Decide whether something that failed or was slow is traced from here on."""
        return self._late.take()


class Allowance:
    """So many in each second, and no more."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._until_s = 0.0
        self._left = per_s

    def take(self) -> bool:
        """Take one, if any is left."""
        now_s = time.monotonic()
        if now_s >= self._until_s:
            self._until_s, self._left = now_s // 1 + 1, self._per_s
        if self._left <= 0:
            return False
        self._left -= 1
        return True


def new_trace_id() -> str:
    """Draw one."""
    return f"{random.getrandbits(128) or 1:032x}"


def new_span_id() -> str:
    """Draw one."""
    return f"{random.getrandbits(64) or 1:016x}"


class Untraced:
    """A request whose trace is not kept, so far as is known.

    Attributes:
        name: Of its span, if it gets one after all.
        ended_ns: 0: it is under way.
    """

    __slots__ = ("attributes", "begun_ns", "ended_ns", "name")

    def __init__(self, name: str, begun_ns: int) -> None:
        self.name = name
        self.begun_ns, self.ended_ns = begun_ns, 0
        self.attributes: dict[str, Value] = {}


current: ContextVar[Live | Untraced | None] = ContextVar("rolekit_span", default=None)
"""The span that what happens now is part of, or a request that has none."""

carried: ContextVar[dict[str, str]] = ContextVar("rolekit_carried", default={})  # noqa: B039 - nobody changes it
"""What came with a request beside the context of its trace, and goes on with what it sends."""


_NOT_KEPT = TraceContext("", "", is_sampled=False)
_OPENTELEMETRY = "opentelemetry.trace"
"""OpenTelemetry's API is there if the app uses it: otherwise there is no span of its own."""
_NOTHING = nullcontext()


def outer_context() -> TraceContext | None:
    """Say which span causes what is sent now, if any is known: ours, or OpenTelemetry's."""
    found = current.get()
    if found is not None:
        return found.context if isinstance(found, Live) else _NOT_KEPT
    otel: Any = sys.modules.get(_OPENTELEMETRY)
    if otel is None:
        return None
    span = otel.get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return TraceContext(
        f"{span.trace_id:032x}", f"{span.span_id:016x}", is_sampled=span.trace_flags.sampled
    )


def within(span: TraceContext) -> AbstractContextManager[None]:
    """Let spans that an app begins with OpenTelemetry be children of this one."""
    return _NOTHING if sys.modules.get(_OPENTELEMETRY) is None else _within(span)


@contextmanager
def _within(span: TraceContext) -> Generator[None]:
    otel: Any = sys.modules[_OPENTELEMETRY]
    context = sys.modules["opentelemetry.context"]
    above = otel.SpanContext(
        int(span.trace, 16),
        int(span.span, 16),
        is_remote=False,
        trace_flags=otel.TraceFlags(otel.TraceFlags.SAMPLED),
    )
    token = context.attach(otel.set_span_in_context(otel.NonRecordingSpan(above)))
    try:
        yield
    finally:
        context.detach(token)
