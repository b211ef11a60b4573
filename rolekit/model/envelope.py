"""What travels: a packet, whose head is readable without its body.

A packet carries id, generation and birth beside the head, since a store or a broker keeps
those in fields of its own. The head says what the body is and where the message stands, so
a message whose body cannot be read still closes its position.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import msgspec

from rolekit.errors import CodecError
from rolekit.model.position import MAX_DEPTH, Frames

HEAD_VERSION = 1
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 1024 * 1024
"""Larger bytes travel as a `Blob`."""

CodecName = Literal["json", "msgpack"]


class Kind(IntEnum):
    """What arrives at a handler's queue."""

    MESSAGE = 0
    TOMBSTONE = 1
    """A direct step in a sequence returned nothing: the position closes, dropped."""
    RELEASE = 2
    """A sequence has parts to release; arrives at its gather."""
    REPLY = 3
    """An answer on its way straight back to whoever asks."""
    FAILURE = 4
    """Says to whoever asks that no answer will come; the body is text."""
    DEAD = 5
    """Tells a handler of a dead letter; the head is that of the message which died."""
    FIRING = 6
    """It is time for a handler that takes no message; `sent_at_ms` is when it was due."""
    BEHIND = 7
    """As `RELEASE`, of a stream: leaves when all is in that the run before gave."""


class Attempts(msgspec.Struct, frozen=True, array_like=True):
    """Attempts so far, by cause. Only `failures` and `crashes` are ever used up.

    `unknown_since_ms` is when a type was first met that nobody knew, 0 for never.
    `has_slots`: this generation was put off until slots that are reserved for it; see
    `model/rates.py`.
    """

    failures: int = 0
    crashes: int = 0
    unknown_since_ms: int = 0
    has_slots: bool = False


class Head(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """Everything about a message but its id, generation, birth and body.

    Attributes:
        version: Of this layout.
        kind: What the receiver should do with it.
        type: Wire name of the message class; empty for a release.
        type_version: Version of the class that encoded the body.
        codec: How the body was encoded: as a `CodecName`, or as another program did.
        root: Id of the message from outside that caused this one.
        sent_at_ms: When the message was sent, by the sender's clock; the same on every attempt.
        frames: Sequences it is a part of, innermost last.
        sequence: Of a release: which sequence.
        attempts: How often it was tried before this generation.
        headers: What travels on to everything this message causes.
        reply_to: Queue of whoever asks, for `client.ask`.
    """

    version: int = HEAD_VERSION
    kind: Kind = Kind.MESSAGE
    type: str = ""
    type_version: int = 1
    codec: str = "json"
    root: str = ""
    sent_at_ms: int = 0
    frames: Frames = ()
    sequence: str = ""
    attempts: Attempts = Attempts()
    headers: dict[str, str] = {}
    reply_to: str = ""

    @property
    def is_release(self) -> bool:
        """Whether it tells a gather that there is something to release."""
        return self.kind in (Kind.RELEASE, Kind.BEHIND)


class KeyedHead(Head, frozen=True, array_like=True, kw_only=True, gc=False):
    """Head of a message in the queue of a partition, which several handlers share.

    Attributes:
        handler: Name of the one it is for.
        key: Whose order it keeps.
    """

    handler: str = ""
    key: str = ""


class Packet(msgspec.Struct, kw_only=True, gc=False):
    """One message as transports and stores see it.

    Attributes:
        queue: Where it goes: the name of a handler, or of a reply queue.
        id: 32 hexadecimal digits.
        generation: 0, and one more for each retry or replay.
        birth_ms: Fixed with (id, generation), milliseconds since 1970; None: the store or
            broker's own clock says when it takes it.
        head: A `Head`, encoded.
        body: The message, encoded by the head's codec.
    """

    queue: str
    id: str
    generation: int = 0
    birth_ms: int | None = None
    head: bytes
    body: bytes = b""


class Nameless(Packet, kw_only=True, gc=False):
    """A message that another program sent without an id: each arrival gives it a new one.

    Attributes:
        alike: The same at each arrival, 32 hexadecimal digits: names what is in it, and the
            queue it came from. Others with the same in them share it, so it says nothing of
            outcomes, only of deaths.
    """

    alike: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Head)
_keyed_decoder = msgspec.msgpack.Decoder(KeyedHead)
_KEYED_BYTE = bytes([0x90 | len(KeyedHead.__struct_fields__)])
"""First byte of a keyed head: an array of so many. Other heads carry nothing of keys."""
_BEHIND_BYTE = bytes([Kind.BEHIND])
"""The third byte of a head is its kind, behind that of the array and the version."""


def encode_head(head: Head) -> bytes:
    """Encode a head.

    Raises:
        CodecError: The head is larger than brokers accept, usually by its headers; or its
            positions are nested too deep to be read.
    """
    _check_depth(head)
    data = _encoder.encode(head)
    if len(data) > MAX_HEAD_BYTES:
        raise CodecError(
            f"The headers and positions of a {head.type} take {len(data)} bytes; "
            f"{MAX_HEAD_BYTES} are allowed.",
            fix="Put large values into the message, or save them as a Blob.",
        )
    return data


def decode_head(data: bytes) -> Head:
    """Read a head.

    Raises:
        CodecError: The bytes are not a head, or one that a newer rolekit wrote.
    """
    if len(data) > MAX_HEAD_BYTES:
        raise CodecError(f"A head of {len(data)} bytes came; {MAX_HEAD_BYTES} are allowed.")
    try:
        head = (_keyed_decoder if data[:1] == _KEYED_BYTE else _decoder).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"The head of a message cannot be read: {error}.") from error
    if head.version != HEAD_VERSION:
        raise CodecError(
            f"The head has layout version {head.version}; this rolekit reads {HEAD_VERSION}.",
            fix="Upgrade this host.",
        )
    _check_depth(head)
    return head


def as_behind(head: bytes) -> bytes:
    """Turn the head of a token into that of one which leaves behind outputs."""
    return encode_head(msgspec.structs.replace(decode_head(head), kind=Kind.BEHIND))


def is_behind(packet: Packet) -> bool:
    """Whether a packet is a token that leaves behind outputs, and was not tried yet.

    Asked of all that leaves: it looks at one byte of the head, the kind.
    """
    return packet.head[2:3] == _BEHIND_BYTE and not packet.generation


def keyed(head: Head, handler: str, key: str) -> KeyedHead:
    """Add to a head for which handler it is, and under which key."""
    fields = {name: getattr(head, name) for name in Head.__struct_fields__}
    return KeyedHead(**fields, handler=handler, key=key)


def plain(head: Head) -> Head:
    """Return a head that says nothing of keys."""
    if type(head) is Head:
        return head
    return Head(**{name: getattr(head, name) for name in Head.__struct_fields__})


def trial_of(packet: Packet) -> tuple[str, int]:
    """Name what instances die of, where they die of a message."""
    alike = packet.alike if isinstance(packet, Nameless) else packet.id
    return (alike, packet.generation)


def handler_of(packet: Packet, head: Head) -> str:
    """Name the handler that a packet goes to."""
    return head.handler if isinstance(head, KeyedHead) else packet.queue


def _check_depth(head: Head) -> None:
    frames = head.frames
    if not frames:
        return
    if len(frames) <= MAX_DEPTH:
        for frame in frames:  # for each message twice: a generator would cost more than it
            if len(frame.path) > MAX_DEPTH:
                break
        else:
            return
    raise CodecError(
        f"The splits that led to a {head.type} are nested deeper than {MAX_DEPTH}.",
        fix="Look for handlers that split in a circle.",
    )
