"""The frame demultiplexer: takes what is ours from the stream, leaves the rest to aiormq.

    socket ── frames ──┬── Deliver, Ack, Nack, Return of channels with a tap ── tap
                       └── every other byte, untouched ── aiormq

aiormq decodes every property of every message and runs a task for each; here a whole read
of the socket becomes one list of deliveries. Handshake, heartbeats, calls and their
answers stay with aiormq. No I/O in here: bytes in, bytes for aiormq out.

Source: PERFORMANCE 3.1; AMQP 0-9-1 specification, 2.3.5 and 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from rolekit.errors import RolekitError
from rolekit.transport.rabbitmq import wire

if TYPE_CHECKING:
    from collections.abc import Callable

Arrived: TypeAlias = tuple[int, bool, bytes, bytes]
"""Delivery tag, whether it was delivered before, properties, body."""

MAX_FRAME = 1 << 20
"""No broker is set up for larger frames; whoever sends one is not speaking AMQP."""

_KINDS = frozenset({wire.METHOD, wire.HEADER, wire.BODY, wire.HEARTBEAT})
_DELIVERY, _RETURNED = 1, 2
_AT_END = wire.END[0]


class FrameError(RolekitError):
    """The bytes that came are not AMQP frames; the connection cannot be used any more."""


@dataclass(frozen=True, slots=True)
class Returned:
    """A message that the broker could not route."""

    code: int
    text: str
    routing_key: str
    props: bytes
    body: bytes


def _ignore(*_: object) -> None:
    """Take what nobody asked for."""


@dataclass(slots=True, eq=False)
class Tap:
    """Where the frames of one channel go.

    Attributes:
        on_deliveries: Takes all deliveries of one read.
        on_confirm: Takes a confirm: delivery tag, whether it covers all before, whether
            the broker refused.
        on_return: Takes a message that could not be routed.
    """

    on_deliveries: Callable[[list[Arrived]], None] = _ignore
    on_confirm: Callable[[int, bool, bool], None] = _ignore
    on_return: Callable[[Returned], None] = _ignore
    pending: int = 0
    tag: int = 0
    redelivered: bool = False
    returned: tuple[int, str, str] = (0, "", "")
    props: bytes | None = None
    wanted: int = 0
    got: int = 0
    pieces: list[bytes] = field(default_factory=list[bytes])
    arrived: list[Arrived] = field(default_factory=list[Arrived])

    def mute(self) -> None:
        """Drop what comes from now on: nobody waits for it, and aiormq must not see it."""
        self.on_deliveries = self.on_confirm = self.on_return = _ignore


class Demux:
    """Cuts a stream into frames.

    Args:
        on_blocked: Told when the broker stops reading what is published, and goes on.

    Attributes:
        taps: By channel number. Who opens a channel adds its tap before anything can come.
        taken: Frames taken from the stream, for whoever looks whether the broker lives.
    """

    def __init__(self, on_blocked: Callable[[bool], None] = _ignore) -> None:
        self.taps: dict[int, Tap] = {}
        self.taken = 0
        self._tail = b""
        self._is_begun = False
        self._is_foreign = False
        self._on_blocked = on_blocked

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they came; call the taps; return what is aiormq's.

        Raises:
            FrameError: This is no AMQP. What came before the fault was handed over.
        """
        if not self._is_begun:
            self._is_begun = True
            # A server of another version answers with its protocol header, not a frame.
            # It begins with an A, as no frame does.
            self._is_foreign = data[:1] == b"A"
        if self._is_foreign:
            return data
        rest: list[bytes] = []
        touched: set[Tap] = set()
        try:
            self._cut(self._tail + data if self._tail else data, rest, touched)
        finally:
            for tap in touched:
                arrived, tap.arrived = tap.arrived, []
                tap.on_deliveries(arrived)
        return b"".join(rest)

    def _cut(  # noqa: C901, PLR0912 - a call a frame would cost more than the frame
        self, data: bytes, rest: list[bytes], touched: set[Tap]
    ) -> None:
        at, end = 0, len(data)
        unpack, taps = wire.FRAME.unpack_from, self.taps
        while end - at >= wire.OVERHEAD:
            kind, number, size = unpack(data, at)
            stop = at + 7 + size
            if stop >= end:
                if size > MAX_FRAME or kind not in _KINDS:
                    raise _no_frame(kind, size)
                break
            if data[stop] != _AT_END or kind not in _KINDS:
                raise _no_frame(kind, size)
            tap = taps.get(number)
            if tap is None:
                if number == 0 and kind == wire.METHOD:
                    self._look(data[at + 7 : at + 11])
                rest.append(data[at : stop + 1])
            elif kind == wire.METHOD:
                if not self._method(tap, data, at, stop):
                    rest.append(data[at : stop + 1])
            elif not tap.pending:
                rest.append(data[at : stop + 1])
            elif kind == wire.HEADER:
                if tap.props is not None or size < 14:  # noqa: PLR2004 - its fixed fields
                    raise FrameError("A content header came where none is due.")
                tap.props = data[at + 19 : stop]
                tap.wanted = int.from_bytes(data[at + 11 : at + 19], "big")
                if not tap.wanted:
                    self._complete(tap, b"", touched)
            elif kind == wire.BODY:
                self._body(tap, data[at + 7 : stop], touched)
            else:
                raise FrameError("A heartbeat came in the middle of a message.")
            at = stop + 1
        self._tail = data[at:] if at < end else b""

    def _look(self, method: bytes) -> None:
        if method == wire.BLOCKED:
            self._on_blocked(True)  # noqa: FBT003 - as the broker says it
        elif method == wire.UNBLOCKED:
            self._on_blocked(False)  # noqa: FBT003 - likewise

    def _method(self, tap: Tap, data: bytes, at: int, stop: int) -> bool:
        """Take a method of a channel with a tap; say whether it was ours."""
        method = data[at + 7 : at + 11]
        if method == wire.CHANNEL_CLOSE:
            # The broker gives the channel up, whatever it was sending.
            tap.pending, tap.props, tap.pieces, tap.got = 0, None, [], 0
            return False
        if tap.pending:
            raise FrameError("A method came in the middle of a message.")
        if method == wire.DELIVER:
            behind = at + 12 + data[at + 11]
            if behind + 9 > stop:
                raise FrameError("A delivery is shorter than its fields.")
            tap.tag = int.from_bytes(data[behind : behind + 8], "big")
            tap.redelivered = bool(data[behind + 8] & 1)
            tap.pending = _DELIVERY
            return True
        if method in (wire.ACK, wire.NACK):
            if stop - at != 7 + 13:
                raise FrameError("A confirm has not the size of its fields.")
            tag, bits = int.from_bytes(data[at + 11 : at + 19], "big"), data[at + 19]
            self.taken += 1
            tap.on_confirm(tag, bool(bits & 1), method == wire.NACK)
            return True
        if method == wire.RETURN:
            tap.returned = _return_fields(data[at + 11 : stop])
            tap.pending = _RETURNED
            return True
        return False

    def _body(self, tap: Tap, piece: bytes, touched: set[Tap]) -> None:
        if tap.props is None:
            raise FrameError("A body came before its header.")
        tap.got += len(piece)
        if tap.got > tap.wanted:
            raise FrameError("A body is longer than its header says.")
        if tap.got < tap.wanted:
            tap.pieces.append(piece)
        elif tap.pieces:
            body = b"".join([*tap.pieces, piece])
            tap.pieces = []
            self._complete(tap, body, touched)
        else:
            self._complete(tap, piece, touched)

    def _complete(self, tap: Tap, body: bytes, touched: set[Tap]) -> None:
        props, tap.props = tap.props, None
        pending, tap.pending = tap.pending, 0
        tap.got = 0
        assert props is not None  # noqa: S101 - the callers looked
        if pending == _DELIVERY:
            tap.arrived.append((tap.tag, tap.redelivered, props, body))
            touched.add(tap)
        else:
            tap.on_return(Returned(*tap.returned, props, body))
        self.taken += 1


def _no_frame(kind: int, size: int) -> FrameError:
    return FrameError(
        f"The broker sent what is no frame: type {kind}, {size} bytes.",
        fix="Look for a proxy that changes bytes, or a port that speaks something else.",
    )


def _return_fields(data: bytes) -> tuple[int, str, str]:
    """Read reply code, reply text and routing key; the exchange is between them."""
    texts: list[str] = []
    at = 2
    for _ in range(3):
        if at >= len(data) or at + 1 + data[at] > len(data):
            raise FrameError("A return is shorter than its fields.")
        texts.append(data[at + 1 : at + 1 + data[at]].decode("utf-8", "replace"))
        at += 1 + data[at]
    return int.from_bytes(data[:2], "big"), texts[0], texts[2]
