"""Spans of sends that have not left yet: they end when what was committed is durable there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.model.span import TRACEPARENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.model.envelope import Packet
    from rolekit.observe.tracing import Live

LEAVING = 10_000
"""So many sends are waited for; the oldest is given up beyond."""
_MARK = b"\xab" + TRACEPARENT.encode() + b"\xd9\x37"
"""How a head begins to say its trace context: a string of 11 bytes, then one of 55."""
_CONTEXT_BYTES = 55
_SPAN_AT = 36


class Leaving:
    """Spans of sends, each until one of its packets has left."""

    def __init__(self) -> None:
        self._sends: dict[str, Live] = {}

    def wait_for(self, sending: Live) -> None:
        """End this span when `left` tells of one of its packets."""
        if len(self._sends) >= LEAVING:
            self._sends.pop(next(iter(self._sends))).end()
        self._sends[sending.span.id] = sending

    @property
    def awaits(self) -> bool:
        """Whether `left` is to be called."""
        return bool(self._sends)

    def left(self, packets: Iterable[Packet]) -> None:
        """Note that packets are durable where they go."""
        for packet in packets:
            at = packet.head.find(_MARK)
            if at < 0:
                continue
            at += len(_MARK)
            context = packet.head[at : at + _CONTEXT_BYTES].decode("ascii", "replace")
            sending = self._sends.pop(context[_SPAN_AT:][:16], None)
            if sending is not None:
                sending.end()
