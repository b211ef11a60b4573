"""Spans on their way from an instance to its supervisor: few writes, and none too late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from rolekit import link

if TYPE_CHECKING:
    from rolekit.model.span import Span

log = structlog.get_logger("rolekit.traces")

UNSHIPPED_BYTES = 1 << 20
"""A supervisor that has so much to read yet gets no more spans."""
HELD_S = 0.05
"""So long an end waits for something that must go at once, and goes with it."""


class Shipping:
    """Writes spans to the line, many together.

    What begins is written before the loop turns, and before anything leaves that may refer to
    it: who writes to a broker or a database calls `flush_begun` first. What ends goes with what
    begins next, or by itself soon. What began and ended within a turn goes once, unless
    something left in between. Of a process that dies within a turn the attempt is missing,
    and the next one says that the message was in the hands of an instance that died; what
    ended within `HELD_S` before it died is taken for under way.

    Args:
        writer: To the supervisor.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._spans: dict[str, Span] = {}
        self._loop = asyncio.get_running_loop()
        self._is_due = False
        self._held: asyncio.TimerHandle | None = None

    def ship(self, span: Span) -> None:
        """Take a span as it began or ended."""
        self._spans[span.id] = span
        if self._is_due:
            return
        if not span.ended_ns:
            self._is_due = True
            self._loop.call_soon(self.flush_begun)
        elif self._held is None:
            self._held = self._loop.call_later(HELD_S, self.flush)

    def flush_begun(self) -> None:
        """Write what is there, if something of it began and is not written; never raises."""
        if self._is_due:
            self.flush()

    def flush(self) -> None:
        """Write what is there. Never raises: no message fails over its span."""
        self._is_due = False
        if self._held is not None:
            self._held.cancel()
            self._held = None
        spans, self._spans = self._spans, {}
        if spans and self._writer.transport.get_write_buffer_size() < UNSHIPPED_BYTES:
            self._writer.write(b"".join(map(_line, spans.values())))


def _line(span: Span) -> bytes:
    try:
        return link.encode(link.Traced(span))
    except Exception as error:  # noqa: BLE001 - an attribute may be anything that an app says
        log.warning("a span is left out", span=span.name, trace=span.trace, error=repr(error))
        return b""
