"""Spans on their way from an instance to its supervisor: few writes, and none too late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit import link
from rolekit.model.span import SpanKind

if TYPE_CHECKING:
    from rolekit.model.span import Span

UNSHIPPED_BYTES = 1 << 20
"""A supervisor that has so much to read yet gets no more spans."""


class Shipping:
    """Writes spans to the line.

    That an attempt begins is written at once: its handler may kill this process. The rest
    goes before the loop turns, and so before anything leaves that refers to it.

    Args:
        writer: To the supervisor.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._lines: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def ship(self, span: Span) -> None:
        """Take a span as it began or ended."""
        if self._writer.transport.get_write_buffer_size() > UNSHIPPED_BYTES:
            return
        if not self._lines:
            self._loop.call_soon(self._flush)
        self._lines.append(link.encode(link.Traced(span)))
        if span.kind is SpanKind.CONSUMER and not span.ended_ns:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            self._writer.write(b"".join(self._lines))
            self._lines.clear()
