"""A second reader of AMQP streams, slow and plain, which knows where each byte went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
Call: TypeAlias = tuple[object, ...]

LARGEST = 1 << 20
METHODS = {b"\x00\x3c\x00\x3c": "deliver", b"\x00\x3c\x00\x32": "return",
           b"\x00\x3c\x00\x50": "ack", b"\x00\x3c\x00\x78": "nack",
           b"\x00\x14\x00\x28": "close"}  # fmt: skip


@dataclass
class _Message:
    """What a channel is in the middle of."""

    call: Call
    is_delivery: bool
    spans: list[Span]
    props: bytes | None = None
    wanted: int = 0
    body: bytes = b""


@dataclass
class Reading:
    """What a stream says.

    Attributes:
        delivered: Of each channel: tag, flag, properties, body.
        spans: Of each of these, in which bytes of the stream its frames were.
        told: Of each channel: confirms and returns.
        rest: What is aiormq's.
        frames: How many were read before the end or the fault.
        is_faulty: It is no AMQP from some point on.
    """

    delivered: dict[int, list[Call]] = field(default_factory=dict[int, list[Call]])
    spans: dict[int, list[list[Span]]] = field(default_factory=dict[int, list[list[Span]]])
    told: dict[int, list[Call]] = field(default_factory=dict[int, list[Call]])
    rest: bytes = b""
    frames: int = 0
    is_faulty: bool = False


class _Fault(Exception):
    pass


class Reader:
    """Reads one stream.

    Args:
        tapped: Numbers of channels with a tap.
    """

    def __init__(self, tapped: tuple[int, ...]) -> None:
        self._open: dict[int, _Message] = {}
        self._rest: list[bytes] = []
        self.said = Reading()
        for channel in tapped:
            self.said.delivered[channel] = []
            self.said.spans[channel] = []
            self.said.told[channel] = []

    def read(self, data: bytes) -> Reading:
        said = self.said
        try:
            at = len(data) if data.startswith(b"A") else 0
            self._rest.append(data[:at])
            while (end := self._end(data, at)) is not None:
                channel = int.from_bytes(data[at + 1 : at + 3], "big")
                if not self._is_taken(channel, data[at], data[at + 7 : end - 1], (at, end)):
                    self._rest.append(data[at:end])
                said.frames += 1
                at = end
        except _Fault:
            said.is_faulty = True
        said.rest = b"".join(self._rest)
        return said

    @staticmethod
    def _end(data: bytes, at: int) -> int | None:
        """Say where a frame ends; None when it has not come yet."""
        if len(data) - at < 8:
            return None
        size = int.from_bytes(data[at + 3 : at + 7], "big")
        end = at + 7 + size + 1
        if data[at] not in (1, 2, 3, 8) or (end > len(data) and size > LARGEST):
            raise _Fault
        if end > len(data):
            return None
        if data[end - 1] != 0xCE:
            raise _Fault
        return end

    def _is_taken(self, channel: int, kind: int, payload: bytes, span: Span) -> bool:
        if channel not in self.said.told:
            return False
        if kind == 1:
            return self._method(channel, METHODS.get(payload[:4], ""), payload[4:], span)
        message = self._open.get(channel)
        if message is None:
            return False
        message.spans.append(span)
        if kind == 2 and message.props is None and len(payload) >= 14:
            message.wanted = int.from_bytes(payload[4:12], "big")
            message.props = payload[12:]
        elif kind == 3 and message.props is not None:
            message.body += payload
        else:
            raise _Fault
        if len(message.body) > message.wanted:
            raise _Fault
        if len(message.body) == message.wanted:
            self._finish(channel, message)
        return True

    def _finish(self, channel: int, message: _Message) -> None:
        del self._open[channel]
        if message.is_delivery:
            self.said.delivered[channel].append((*message.call, message.props, message.body))
            self.said.spans[channel].append(message.spans)
        else:
            self.said.told[channel].append((*message.call, message.props, message.body))

    def _method(self, channel: int, name: str, fields: bytes, span: Span) -> bool:
        if name == "close":
            self._open.pop(channel, None)
            return False
        if channel in self._open:
            raise _Fault
        if name == "deliver":
            size = fields[0] if fields else 0
            if len(fields) < 1 + size + 9:
                raise _Fault
            tag = int.from_bytes(fields[1 + size : 9 + size], "big")
            again = fields[9 + size] % 2 == 1
            self._open[channel] = _Message((tag, again), is_delivery=True, spans=[span])
        elif name == "return":
            self._open[channel] = _Message(_returned(fields), is_delivery=False, spans=[span])
        elif name in {"ack", "nack"}:
            if len(fields) != 9:
                raise _Fault
            tag = int.from_bytes(fields[:8], "big")
            self.said.told[channel].append((tag, fields[8] % 2 == 1, name == "nack"))
        return name in {"deliver", "return", "ack", "nack"}


def _returned(fields: bytes) -> Call:
    texts: list[str] = []
    left = fields[2:]
    for _ in range(3):
        if not left or len(left) < 1 + left[0]:
            raise _Fault
        texts.append(left[1 : 1 + left[0]].decode("utf-8", "replace"))
        left = left[1 + left[0] :]
    return (int.from_bytes(fields[:2], "big"), texts[0], texts[2])
