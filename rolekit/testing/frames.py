"""AMQP 0-9-1 frames, as they pass: enough to know one from another, and nothing more.

Source: AMQP 0-9-1 specification, 2.3.5 (frame details) and 4.2.3 (general frame format).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
PROTOCOL = 0
"""Not a frame of the specification: the eight bytes with which a client begins."""

_PREFIX = struct.Struct(">BHL")
_END = 0xCE
_KINDS = {PROTOCOL: "protocol", HEADER: "header", BODY: "body", HEARTBEAT: "heartbeat"}
_METHODS = {
    (10, "Connection"): "10 Start 11 StartOk 20 Secure 21 SecureOk 30 Tune 31 TuneOk 40 Open "
    "41 OpenOk 50 Close 51 CloseOk 60 Blocked 61 Unblocked 70 UpdateSecret 71 UpdateSecretOk",
    (20, "Channel"): "10 Open 11 OpenOk 20 Flow 21 FlowOk 40 Close 41 CloseOk",
    (40, "Exchange"): "10 Declare 11 DeclareOk 20 Delete 21 DeleteOk 30 Bind 31 BindOk "
    "40 Unbind 51 UnbindOk",
    (50, "Queue"): "10 Declare 11 DeclareOk 20 Bind 21 BindOk 30 Purge 31 PurgeOk 40 Delete "
    "41 DeleteOk 50 Unbind 51 UnbindOk",
    (60, "Basic"): "10 Qos 11 QosOk 20 Consume 21 ConsumeOk 30 Cancel 31 CancelOk 40 Publish "
    "50 Return 60 Deliver 70 Get 71 GetOk 72 GetEmpty 80 Ack 90 Reject 100 RecoverAsync "
    "110 Recover 111 RecoverOk 120 Nack",
    (85, "Confirm"): "10 Select 11 SelectOk",
    (90, "Tx"): "10 Select 11 SelectOk 20 Commit 21 CommitOk 30 Rollback 31 RollbackOk",
}


def _names() -> Iterator[tuple[tuple[int, int], str]]:
    for (class_id, class_name), methods in _METHODS.items():
        words = methods.split()
        for method_id, method_name in zip(words[::2], words[1::2], strict=True):
            yield (class_id, int(method_id)), f"{class_name}.{method_name}"


NAMES = dict(_names())
"""Names of methods by class and method number: (60, 80) is "Basic.Ack"."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    Attributes:
        kind: METHOD, HEADER, BODY, HEARTBEAT, or PROTOCOL for what comes before frames.
        channel: 0 is that of the connection itself.
        payload: What is between the frame's prefix and its end.
        connection: Which connection of a proxy it came by, counted from 1.
    """

    kind: int
    channel: int
    payload: bytes
    connection: int = 0

    @property
    def method(self) -> tuple[int, int] | None:
        """Class and method number; None where there is no method."""
        if self.kind != METHOD:
            return None
        class_id, method_id = struct.unpack_from(">HH", self.payload)
        return class_id, method_id

    @property
    def name(self) -> str:
        """Call it "Basic.Ack" as the specification does, or header, body, heartbeat."""
        if self.method is None:
            return _KINDS.get(self.kind, f"kind {self.kind}")
        return NAMES.get(self.method, "method {}.{}".format(*self.method))

    def encode(self) -> bytes:
        """Return the bytes of it that are sent."""
        if self.kind == PROTOCOL:
            return self.payload
        prefix = _PREFIX.pack(self.kind, self.channel, len(self.payload))
        return prefix + self.payload + bytes([_END])


def method(name: str, arguments: bytes = b"", channel: int = 1) -> Frame:
    """Make the frame of a method, by the name that the specification gives it."""
    numbers = next(numbers for numbers, known in NAMES.items() if known == name)
    return Frame(METHOD, channel, struct.pack(">HH", *numbers) + arguments)


class Splitter:
    """Cuts one direction of a connection into frames, in whatever pieces it comes.

    Bytes that are no frames end that: they and all that follow come out as they came in.
    """

    def __init__(self, connection: int = 0) -> None:
        self._connection = connection
        self._held = b""
        self._is_lost: bool = False

    def feed(self, data: bytes) -> Iterator[tuple[bytes, Frame | None]]:
        """Take what arrived; yield each whole frame with its bytes, or bytes that are none."""
        self._held += data
        while not self._is_lost:
            frame = self._next()
            if frame is None:
                break
            raw = frame.encode()
            self._held = self._held[len(raw) :]
            yield raw, frame
        if self._is_lost and self._held:
            yield self.rest(), None

    def rest(self) -> bytes:
        """Take what has come of a frame that is not whole."""
        held, self._held = self._held, b""
        return held

    def _next(self) -> Frame | None:
        held = self._held
        if held[:4] == PROTOCOL_HEADER[:4]:
            whole = len(PROTOCOL_HEADER)
            if len(held) < whole:
                return None
            return Frame(PROTOCOL, 0, held[:whole], self._connection)
        if len(held) < _PREFIX.size:
            return None
        kind, channel, size = _PREFIX.unpack_from(held)
        end = _PREFIX.size + size
        is_known = kind == METHOD or kind in _KINDS
        if is_known and len(held) <= end:
            return None
        if not is_known or held[end] != _END:
            self._is_lost = True
            return None
        return Frame(kind, channel, held[_PREFIX.size : end], self._connection)
