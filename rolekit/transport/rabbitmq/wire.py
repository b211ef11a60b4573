"""A packet as AMQP 0-9-1 bytes, and back: only what the hot path writes and reads.

What rolekit writes has one layout, so that reading it back is slicing:

    content-type   "application/rolekit"
    headers        one field "rk": generation (4 bytes), birth in ms (8), then the head
    delivery-mode  2: written to disk
    message-id     the id, 32 hexadecimal digits

Whatever else comes, from other programs or with headers that the broker added, is read
field by field.

Source: AMQP 0-9-1 specification, 4.2 (frames, tables) and 1.8 (class basic).
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
_FLAGS = 0xB080
_PREFIX = _FLAGS.to_bytes(2, "big") + bytes([len(CONTENT_TYPE)]) + CONTENT_TYPE.encode()
_AT_TABLE = len(_PREFIX)
_AT_FIELD = _AT_TABLE + 4
_FIELD = b"\x02rkx"
_AT_META = _AT_FIELD + 8
_AT_HEAD = _AT_META + 12
_META_BYTES = 12
_ID_BYTES = 32
MAX_GENERATION = 2**31 - 1
MAX_BIRTH_MS = 253_402_300_799_999
"""The last of the year 9999. Stores keep neither more than this nor a larger generation."""
_TAIL = b"\x02\x20"
"""Delivery mode 2, and the length of the id that follows."""

_CONTENT = Struct(">BHIHHQ")
_TABLE = Struct(">I4sIIQ")
_META = Struct(">IQ")
_U32 = Struct(">I")
_BASIC = 60
_FIXED = _AT_TABLE + _TABLE.size + len(_TAIL) + _ID_BYTES
BESIDE_HEAD = _FIXED + 12
"""Bytes of a header frame's payload that are not the packet's head."""


_UNREADABLE = (IndexError, error, UnicodeDecodeError, OverflowError, RecursionError)


def publish_method(channel: int, queue: str) -> bytes:
    """Build the frame that sends what follows to one queue, by the default exchange.

    It is mandatory: the broker returns what it cannot route instead of dropping it.
    """
    name = queue.encode()
    payload = b"\x00\x3c\x00\x28\x00\x00\x00" + bytes([len(name)]) + name + b"\x01"
    return FRAME.pack(METHOD, channel, len(payload)) + payload + END


def add_content(out: list[bytes], channel: int, packet: Packet, max_payload: int) -> None:
    """Append the header and body frames of a packet, whose birth is known.

    Args:
        out: Takes the pieces.
        channel: Number.
        packet: Its id has 32 characters.
        max_payload: Bytes that one frame may carry.
    """
    head, body = packet.head, packet.body
    meta, size = _META_BYTES + len(head), len(body)
    out += (
        _CONTENT.pack(HEADER, channel, BESIDE_HEAD + len(head), _BASIC, 0, size),
        _PREFIX,
        _TABLE.pack(8 + meta, _FIELD, meta, packet.generation, packet.birth_ms or 0),
        head,
        _TAIL,
        packet.id.encode(),
        END,
    )
    if size <= max_payload:
        if size:
            out += (FRAME.pack(BODY, channel, size), body, END)
        return
    for begin in range(0, size, max_payload):
        piece = body[begin : begin + max_payload]
        out += (FRAME.pack(BODY, channel, len(piece)), piece, END)


def add_raw(
    out: list[bytes], channel: int, props: bytes, body: bytes, max_payload: int
) -> None:
    """Append the header and body frames of a message as it came, whoever wrote it."""
    size = len(body)
    payload = _BASIC.to_bytes(2, "big") + b"\x00\x00" + size.to_bytes(8, "big") + props
    out += (FRAME.pack(HEADER, channel, len(payload)), payload, END)
    for begin in range(0, size, max_payload):
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
    """What rolekit wrote beside a body."""

    id: str
    generation: int
    birth_ms: int
    head: bytes


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


def read_properties(props: bytes) -> Own | Foreign:
    """Read the properties of a delivery: flags and values, as the header frame has them.

    Raises:
        CodecError: They are not what AMQP says they are.
    """
    if props.startswith(_PREFIX) and props[_AT_FIELD : _AT_FIELD + 4] == _FIELD:
        own = _own_at_once(props)
        if own is not None:
            return own
    try:
        read = _field_by_field(props)
    except _UNREADABLE as wrong:
        raise CodecError(f"The properties of a message cannot be read: {wrong}.") from wrong
    meta = read.headers.get("rk")
    is_own = read.content_type == CONTENT_TYPE and isinstance(meta, bytes)
    if not is_own or read.message_id is None or not _is_id(read.message_id):
        return read
    meta = cast("bytes", meta)
    if len(meta) < _META_BYTES:
        raise CodecError("The header field rk of a message is too short.")
    generation, birth_ms = _META.unpack_from(meta)
    if generation > MAX_GENERATION or birth_ms > MAX_BIRTH_MS:
        raise CodecError(
            f"A message says it is of generation {generation}, born {birth_ms} ms after 1970: "
            "no store keeps that."
        )
    return Own(read.message_id, generation, birth_ms, meta[_META_BYTES:])


def first_death(props: bytes) -> str:
    """Return the name of the queue that a message was first given up in, or nothing.

    Raises:
        CodecError: The properties are not what AMQP says they are.
    """
    try:
        found = _field_by_field(props).headers.get("x-first-death-queue")
    except _UNREADABLE as wrong:
        raise CodecError(f"The properties of a message cannot be read: {wrong}.") from wrong
    return found if isinstance(found, str) else ""


def _is_id(text: str) -> bool:
    try:
        return len(text) == _ID_BYTES and bytes.fromhex(text).hex() == text
    except ValueError:
        return False


def _own_at_once(props: bytes) -> Own | None:
    """Read the layout that rolekit writes; None: it is not quite that."""
    size = len(props)
    if size < _FIXED + _META_BYTES - 12:
        return None
    table = _U32.unpack_from(props, _AT_TABLE)[0]
    meta = _U32.unpack_from(props, _AT_FIELD + 4)[0]
    at_tail = _AT_FIELD + table
    if meta < _META_BYTES or 8 + meta > table or at_tail + 2 + _ID_BYTES != size:
        return None
    generation, birth_ms = _META.unpack_from(props, _AT_META)
    is_kept = generation <= MAX_GENERATION and birth_ms <= MAX_BIRTH_MS
    if not is_kept or props[at_tail : at_tail + 2] != _TAIL:
        return None
    try:
        id_ = props[at_tail + 2 :].decode("ascii")
    except UnicodeDecodeError:
        return None
    if not _is_id(id_):
        return None
    return Own(id_, generation, birth_ms, props[_AT_HEAD : _AT_META + meta])


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
