"""What a log line is about: the message in hand, and its trace; asked only by who logs.

A runner says with one assignment which message it has, so that costs nothing worth naming
where nobody logs. A task that a handler leaves behind says which message its runner has by
then.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from rolekit.errors import CodecError
from rolekit.model.envelope import decode_head
from rolekit.model.span import TRACEPARENT, context_of
from rolekit.observe.tracing import Live, current

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import WrappedLogger

    from rolekit.model.envelope import Packet


class Hand:
    """What a runner has in hand; None: nothing."""

    __slots__ = ("packet",)

    def __init__(self, packet: Packet | None = None) -> None:
        self.packet = packet


in_hand: ContextVar[Hand | None] = ContextVar("rolekit_in_hand", default=None)


def name_message(
    _logger: WrappedLogger, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Add to a line which message and which trace it is about, if it does not say so itself."""
    hand, live = in_hand.get(), current.get()
    if hand is not None and hand.packet is not None:
        event.setdefault("message", hand.packet.id)
        if (trace := _trace_of(hand.packet)) is not None:
            event.setdefault("trace", trace)
    elif isinstance(live, Live):
        event.setdefault("trace", live.span.trace)
    return event


def _trace_of(packet: Packet) -> str | None:
    try:
        header = decode_head(packet.head).headers.get(TRACEPARENT, "")
    except CodecError:
        return None
    found = context_of(header)
    return None if found is None else found.trace
