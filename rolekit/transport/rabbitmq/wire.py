"""A packet as AMQP 0-9-1 bytes, and back: only what the hot path writes and reads.

What rolekit writes has one layout, so that reading it back is slicing:

    content-type   "application/rolekit"
    delivery-mode  2: written to disk
    message-id     the id, 32 hexadecimal digits
    body           layout (1 byte, 1), size of the head (4), generation (4), birth in ms (8),
                   the head, then the message

The head is no header field, because properties of more than 64 bytes cost a broker dear:
Erlang keeps larger binaries outside the heaps of its processes. With the head among them a
classic queue of RabbitMQ 3.10 took 16,000 messages a second, in front of the body 25,000.

Whatever else comes, from other programs or with headers that the broker added, is read
field by field.

Source: AMQP 0-9-1 specification, 4.2 (frames, tables) and 1.8 (class basic); Erlang
Efficiency Guide, "Constructing and Matching Binaries".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct, error
from typing import TYPE_CHECKING, cast

from rolekit.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.model.envelope import Packet

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"
FRAME = Struct(">BHI")
OVERHEAD = 8
"""Bytes of a frame that are not its payload."""

DELIVER = b"\x00\x3c\x00\x3c"
RETURN = b"\x00\x3c\x00\x32"
ACK = b"\x00\x3c\x00\x50"
NACK = b"\x00\x3c\x00\x78"
BLOCKED = b"\x00\x0a\x00\x3c"
UNBLOCKED = b"\x00\x0a\x00\x3d"
CHANNEL_CLOSE = b"\x00\x14\x00\x28"
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"

CONTENT_TYPE = "application/rolekit"
_ID_BYTES = 32
_HEX = b"0123456789abcdef"
_PROPS = b"".join(
    # flags; content type; delivery mode 2; and the length of the id that follows
    (b"\x90\x80", bytes([len(CONTENT_TYPE)]), CONTENT_TYPE.encode(), b"\x02", b"\x20")
)
_PROPS_BYTES = len(_PROPS) + _ID_BYTES
MAX_GENERATION = 2**31 - 1
MAX_BIRTH_MS = 253_402_300_799_999
"""The last of the year 9999. Stores keep neither more than this nor a larger generation."""

LAYOUT = 1
_META = Struct(">BIIQ")
_META_BYTES = _META.size
_BASIC = 60
_HEADER_START = Struct(">BHIHH")
_CONTENT = Struct(f">Q{len(_PROPS)}s{_ID_BYTES}sc")
_WHOLE = Struct(f"{_CONTENT.format}BHIBIIQ")


_UNREADABLE = (IndexError, error, UnicodeDecodeError, OverflowError, RecursionError)


def publish_method(channel: int, queue: str) -> bytes:
    """Build the frame that sends what follows to one queue, by the default exchange.

    It is mandatory: the broker returns what it cannot route instead of dropping it.
    """
    name = queue.encode()
    payload = b"\x00\x3c\x00\x28\x00\x00\x00" + bytes([len(name)]) + name + b"\x01"
    return FRAME.pack(METHOD, channel, len(payload)) + payload + END


def content_start(channel: int, queue: str) -> bytes:
    """Build what the content of each packet to one queue begins with, for `add_content`.

    That is its method frame, and what is the same in all header frames.
    """
    header = _HEADER_START.pack(HEADER, channel, 12 + _PROPS_BYTES, _BASIC, 0)
    return publish_method(channel, queue) + header


def add_content(
    out: list[bytes], start: bytes, channel: int, packet: Packet, max_payload: int
) -> None:
    """Append the frames of a packet, whose birth is known.

    Args:
        out: Takes the pieces.
        start: What `content_start` built for its queue.
        channel: Number.
        packet: Its id has 32 characters.
        max_payload: Bytes that one frame may carry.
    """
    head, body = packet.head, packet.body
    head_size = len(head)
    size = _META_BYTES + head_size + len(body)
    content = (size, _PROPS, packet.id.encode(), END)
    meta = (LAYOUT, head_size, packet.generation, packet.birth_ms or 0)
    if size <= max_payload:
        whole = _WHOLE.pack(*content, BODY, channel, size, *meta)
        out += (start, whole, head, body, END)
    else:
        out += (start, _CONTENT.pack(*content))
        _add_body(out, channel, b"".join((_META.pack(*meta), head, body)), max_payload)


def add_raw(
    out: list[bytes], channel: int, props: bytes, body: bytes, max_payload: int
) -> None:
    """Append the header and body frames of a message as it came, whoever wrote it."""
    size = len(body)
    payload = _BASIC.to_bytes(2, "big") + b"\x00\x00" + size.to_bytes(8, "big") + props
    out += (FRAME.pack(HEADER, channel, len(payload)), payload, END)
    _add_body(out, channel, body, max_payload)


def _add_body(out: list[bytes], channel: int, body: bytes, max_payload: int) -> None:
    for begin in range(0, len(body), max_payload):
        piece = body[begin : begin + max_payload]
        out += (FRAME.pack(BODY, channel, len(piece)), piece, END)


def ack_frame(channel: int, tag: int, *, multiple: bool) -> bytes:
    """Build the frame that acks one delivery, or every one up to it."""
    bits = b"\x01" if multiple else b"\x00"
    return FRAME.pack(METHOD, channel, 13) + ACK + tag.to_bytes(8, "big") + bits + END


def requeue_frame(channel: int, tag: int) -> bytes:
    """Build the frame that gives one delivery back to its queue."""
    return FRAME.pack(METHOD, channel, 13) + NACK + tag.to_bytes(8, "big") + b"\x02" + END


@dataclass(slots=True)
class Own:
    """What rolekit wrote; `body` is the message itself."""

    id: str
    generation: int
    birth_ms: int
    head: bytes
    body: bytes


@dataclass(slots=True)
class Foreign:
    """Properties of a message that another program wrote; None where it did not say.

    Attributes:
        headers: As the table has them; values are text, numbers, bytes, lists, tables.
        timestamp_s: Seconds since 1970.
        type: The property of that name.
    """

    content_type: str | None = None
    headers: dict[str, object] = field(default_factory=dict[str, object])
    message_id: str | None = None
    timestamp_s: int | None = None
    type: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None


def read(props: bytes, data: bytes) -> Own | Foreign:
    """Read a delivery.

    Args:
        props: Flags and values of its properties, as the header frame has them.
        data: Its body, as the body frames have it.

    Returns:
        What rolekit wrote; or the properties of another program's message, whose body is
        `data`.

    Raises:
        CodecError: They are not what AMQP, or rolekit, says they are.
    """
    id_ = props[-_ID_BYTES:]
    if (
        len(props) == _PROPS_BYTES
        and props.startswith(_PROPS)
        and not id_.translate(None, _HEX)
    ):
        return _own(id_.decode(), data)
    properties = read_properties(props)
    id_or_not = properties.message_id
    if properties.content_type != CONTENT_TYPE or id_or_not is None or not _is_id(id_or_not):
        return properties
    return _own(id_or_not, data)


def _own(id_: str, data: bytes) -> Own:
    if len(data) < _META_BYTES:
        raise CodecError(f"Message {id_} has {len(data)} bytes, fewer than rolekit writes.")
    layout, size, generation, birth_ms = _META.unpack_from(data)
    at = _META_BYTES + size
    if layout != LAYOUT or at > len(data):
        raise CodecError(
            f"Message {id_} is laid out in a way this rolekit cannot read: it begins with "
            f"{layout}, {LAYOUT} is read, and its head has {size} of {len(data)} bytes.",
            fix="Upgrade this host.",
        )
    if generation > MAX_GENERATION or birth_ms > MAX_BIRTH_MS:
        raise CodecError(
            f"Message {id_} says it is of generation {generation}, born {birth_ms} ms after "
            "1970: no store keeps that."
        )
    return Own(id_, generation, birth_ms, data[_META_BYTES:at], data[at:])


def read_properties(props: bytes) -> Foreign:
    """Read properties, whoever wrote them.

    Raises:
        CodecError: They are not what AMQP says they are.
    """
    try:
        return _field_by_field(props)
    except _UNREADABLE as wrong:
        raise CodecError(f"The properties of a message cannot be read: {wrong}.") from wrong


def first_death(props: bytes) -> str:
    """Return the name of the queue that a message was first given up in, or nothing.

    Raises:
        CodecError: The properties are not what AMQP says they are.
    """
    found = read_properties(props).headers.get("x-first-death-queue")
    return found if isinstance(found, str) else ""


def _is_id(text: str) -> bool:
    return len(text) == _ID_BYTES and not text.encode().translate(None, _HEX)


# -- field by field -------------------------------------------------------------------------

_SHORT, _LONG_TABLE, _OCTET, _LONGLONG = "short", "table", "octet", "longlong"
_PROPERTIES: tuple[tuple[int, str, str], ...] = (
    (15, "content_type", _SHORT),
    (14, "", _SHORT),
    (13, "headers", _LONG_TABLE),
    (12, "", _OCTET),
    (11, "", _OCTET),
    (10, "correlation_id", _SHORT),
    (9, "reply_to", _SHORT),
    (8, "", _SHORT),
    (7, "message_id", _SHORT),
    (6, "timestamp_s", _LONGLONG),
    (5, "type", _SHORT),
    (4, "", _SHORT),
    (3, "", _SHORT),
    (2, "", _SHORT),
)
MAX_NESTED = 32
"""Tables and lists within one another, at most."""


def _field_by_field(props: bytes) -> Foreign:
    flags = int.from_bytes(props[:2], "big")
    at = 2
    word = flags
    while word & 1:  # more flags follow; AMQP 0-9-1 defines none of them
        word = int.from_bytes(props[at : at + 2], "big")
        at += 2
    found = Foreign()
    for bit, name, form in _PROPERTIES:
        if not flags >> bit & 1:
            continue
        value: object
        if form == _SHORT:
            value, at = _short(props, at)
        elif form == _LONG_TABLE:
            value, at = _table(props, at, 0)
        elif form == _OCTET:
            value, at = props[at], at + 1
        else:
            value, at = _whole(props, at, 8, signed=False)
        if name:
            setattr(found, name, value)
    return found


def _taken(data: bytes, at: int, size: int) -> bytes:
    piece = data[at : at + size]
    if len(piece) != size:
        raise IndexError(f"{size} bytes were announced, {len(piece)} are there")
    return piece


def _short(data: bytes, at: int) -> tuple[str, int]:
    size = data[at]
    text = _taken(data, at + 1, size).decode("utf-8", "replace")
    return text, at + 1 + size


def _whole(data: bytes, at: int, size: int, *, signed: bool) -> tuple[int, int]:
    return int.from_bytes(_taken(data, at, size), "big", signed=signed), at + size


def _table(data: bytes, at: int, depth: int) -> tuple[dict[str, object], int]:
    size, at = _whole(data, at, 4, signed=False)
    end = at + size
    _taken(data, at, size)
    found: dict[str, object] = {}
    while at < end:
        name, at = _short(data, at)
        found[name], at = _value(data, at, depth + 1)
    if at != end:
        raise IndexError("a table does not end where it says")
    return found, at


def _list(data: bytes, at: int, depth: int) -> tuple[list[object], int]:
    size, at = _whole(data, at, 4, signed=False)
    end = at + size
    _taken(data, at, size)
    found: list[object] = []
    while at < end:
        value, at = _value(data, at, depth + 1)
        found.append(value)
    if at != end:
        raise IndexError("a list does not end where it says")
    return found, at


_NUMBERS: dict[int, tuple[int, bool]] = {
    ord("b"): (1, True), ord("B"): (1, False),
    ord("s"): (2, True), ord("u"): (2, False), ord("U"): (2, True),
    ord("I"): (4, True), ord("i"): (4, False),
    ord("l"): (8, True), ord("L"): (8, True), ord("T"): (8, False),
}  # fmt: skip
"""Bytes and sign of whole numbers, as RabbitMQ reads the letters."""
_FLOATS: dict[int, Struct] = {ord("f"): Struct(">f"), ord("d"): Struct(">d")}


def _value(data: bytes, at: int, depth: int) -> tuple[object, int]:
    if depth > MAX_NESTED:
        raise IndexError(f"tables are nested deeper than {MAX_NESTED}")
    letter, at = data[at], at + 1
    if letter in _NUMBERS:
        size, signed = _NUMBERS[letter]
        return _whole(data, at, size, signed=signed)
    if letter in _FLOATS:
        form = _FLOATS[letter]
        return form.unpack_from(data, at)[0], at + form.size
    read = _FORMS.get(letter)
    if read is None:
        raise IndexError(f"a field has type {chr(letter)!r}, which nobody knows")
    return read(data, at, depth)


def _flag(data: bytes, at: int, _: int) -> tuple[object, int]:
    return bool(data[at]), at + 1


def _decimal(data: bytes, at: int, _: int) -> tuple[object, int]:
    value, _ = _whole(data, at + 1, 4, signed=True)
    return value / 10 ** data[at], at + 5


def _text(data: bytes, at: int, _: int) -> tuple[object, int]:
    raw, at = _bytes(data, at, 0)
    return cast("bytes", raw).decode("utf-8", "replace"), at


def _bytes(data: bytes, at: int, _: int) -> tuple[object, int]:
    size, at = _whole(data, at, 4, signed=False)
    return _taken(data, at, size), at + size


def _nothing(_: bytes, at: int, __: int) -> tuple[object, int]:
    return None, at


_FORMS: dict[int, Callable[[bytes, int, int], tuple[object, int]]] = {
    ord("t"): _flag,
    ord("D"): _decimal,
    ord("S"): _text,
    ord("x"): _bytes,
    ord("F"): _table,
    ord("A"): _list,
    ord("V"): _nothing,
}
