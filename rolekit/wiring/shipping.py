"""Spans on their way from an instance to its supervisor: few writes, and none too late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit import link

if TYPE_CHECKING:
    from rolekit.model.span import Span

UNSHIPPED_BYTES = 1 << 20
"""A supervisor that has so much to read yet gets no more spans."""


class Shipping:
    """Writes spans to the line, those of one turn of the loop together.

    So they go before anything leaves that refers to them; what began and ended within a turn
    goes once. Of a process that dies within a turn they are lost: then the attempt is missing,
    and the next one says that the message was in the hands of an instance that died.

    Args:
        writer: To the supervisor.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._spans: dict[str, Span] = {}
        self._loop = asyncio.get_running_loop()

    def ship(self, span: Span) -> None:
        """Take a span as it began or ended."""
        if not self._spans:
            self._loop.call_soon(self._flush)
        self._spans[span.id] = span

    def _flush(self) -> None:
        if self._writer.transport.get_write_buffer_size() < UNSHIPPED_BYTES:
            lines = [link.encode(link.Traced(span)) for span in self._spans.values()]
            self._writer.write(b"".join(lines))
        self._spans.clear()
