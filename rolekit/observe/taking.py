"""The span of what a program takes in by itself: over SMTP, say, or from a device.

What it sends meanwhile is caused by it, so the trace of a message begins there.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rolekit.model.span import SpanKind
from rolekit.observe.tracing import Live, Untraced, current, new_trace_id

if TYPE_CHECKING:
    from collections.abc import Generator

    from rolekit.observe.tracing import Tracer


class Taking:
    """Something that is being taken in."""

    def __init__(self, taken: Live | Untraced | None) -> None:
        self._taken = taken

    def refused(self, why: str) -> None:
        """Say that it was not taken, and why; a word or a code, nothing of what is in it."""
        if isinstance(self._taken, Live):
            span = self._taken.span
            span.error, span.detail = "Refused", why[:500]


@contextmanager
def taking(tracer: Tracer | None, name: str, **attributes: str | int) -> Generator[Taking]:
    """Begin a trace, if it is kept, which lasts as long as the block and all that it sends.

    Args:
        tracer: Decides whether it is kept; None: nothing is traced.
        name: Of the span: what is done, few different ones.
        attributes: By their OpenTelemetry names, with `__` for a dot.
    """
    if tracer is None:
        yield Taking(None)
        return
    named = {key.replace("__", "."): value for key, value in attributes.items()}
    if not tracer.begins():
        untraced = Untraced(name, tracer.now_ns())
        untraced.attributes |= named
        token = current.set(untraced)
        try:
            yield Taking(untraced)
        finally:
            untraced.ended_ns = tracer.now_ns()
            current.reset(token)
        return
    live = Live(tracer, name, SpanKind.SERVER, trace=new_trace_id(), attributes={**named})
    token = current.set(live.begin())
    try:
        yield Taking(live)
    except BaseException as error:
        live.failed(error)
        raise
    finally:
        current.reset(token)
        live.end()
