"""The laws of bytes on the wire: what we write another library reads, and the reverse."""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import body, commands, frame, header

from rolekit.errors import CodecError
from rolekit.model.envelope import Packet
from rolekit.transport.rabbitmq import RabbitTransport, wire
from tests.property.amqp_values import (
    FIELDS,
    NAMES,
    PYTHON_VALUES,
    TIMES,
    VALUES,
    X_DEATH,
    X_DELIVERY_COUNT,
    Written,
    as_read,
    long,
    short,
    table,
)

pytestmark = pytest.mark.timeout(60)

CHANNELS = st.integers(1, 2**16 - 1)
TAGS = st.integers(1, 2**64 - 1)
IDS = st.integers(0, 2**128 - 1).map(lambda it: f"{it:032x}")
QUEUES = st.text("abcXYZ019_.:@#,/><-", min_size=1, max_size=255)
GENERATIONS = st.integers(0, 2**31 - 1)
BIRTHS = st.integers(0, wire.MAX_BIRTH_MS)
PACKETS = st.builds(
    Packet,
    queue=st.just("q"),
    id=IDS,
    generation=GENERATIONS,
    birth_ms=BIRTHS,
    head=st.binary(max_size=40),
    body=st.binary(max_size=60),
)


def frames_of(data: bytes) -> list[tuple[int, Any]]:
    """Let pamqp read whole frames: channel and what it is."""
    found: list[tuple[int, Any]] = []
    while data:
        size, channel, read = frame.unmarshal(data)
        found.append((channel, read))
        data = data[size:]
    return found


# -- what we write --------------------------------------------------------------------------


@given(CHANNELS, QUEUES)
def test_a_publish_goes_to_one_queue_by_the_default_exchange_and_is_mandatory(
    channel: int, queue: str
) -> None:
    ((number, method),) = frames_of(wire.publish_method(channel, queue))

    assert isinstance(method, commands.Basic.Publish)
    assert (number, method.exchange, method.routing_key) == (channel, "", queue)
    assert (method.mandatory, method.immediate) == (True, False)


@given(CHANNELS, PACKETS, st.integers(1, 64))
def test_a_packet_is_its_method_one_header_and_its_body_in_frames_that_fit(
    channel: int, packet: Packet, max_payload: int
) -> None:
    out: list[bytes] = []

    wire.add_content(out, wire.content_start(channel, "q"), channel, packet, max_payload)

    (number, method), (first, head), *rest = frames_of(b"".join(out))
    assert isinstance(method, commands.Basic.Publish)
    assert (number, method.routing_key) == (channel, "q")
    assert isinstance(head, header.ContentHeader)
    props = head.properties
    whole = data_of(packet)
    assert (first, head.body_size) == (channel, len(whole))
    assert (props.content_type, props.message_id) == (wire.CONTENT_TYPE, packet.id)
    assert (props.headers, props.delivery_mode) == (None, 2)
    pieces = [it.value for _, it in rest if isinstance(it, body.ContentBody)]
    assert len(pieces) == len(rest) == -(-len(whole) // max_payload)
    assert all(number == channel for number, _ in rest)
    assert all(0 < len(piece) <= max_payload for piece in pieces)
    assert b"".join(pieces) == whole


@given(PACKETS)
def test_properties_fit_into_what_a_broker_keeps_on_its_heap(packet: Packet) -> None:
    assert len(props_of(packet)) <= 64


@given(CHANNELS, TAGS, st.booleans())
def test_an_ack_is_read_as_one(channel: int, tag: int, multiple: bool) -> None:  # noqa: FBT001 - drawn
    ((number, method),) = frames_of(wire.ack_frame(channel, tag, multiple=multiple))

    assert isinstance(method, commands.Basic.Ack)
    assert (number, method.delivery_tag & (2**64 - 1), method.multiple) == (
        channel, tag, multiple,
    )  # fmt: skip


@given(CHANNELS, TAGS)
def test_a_delivery_is_given_back_alone_and_to_its_queue(channel: int, tag: int) -> None:
    ((number, method),) = frames_of(wire.requeue_frame(channel, tag))

    assert isinstance(method, commands.Basic.Nack)
    assert (number, method.delivery_tag & (2**64 - 1)) == (channel, tag)
    assert (method.multiple, method.requeue) == (False, True)


# -- what we read ---------------------------------------------------------------------------


def own_of(packet: Packet) -> wire.Own:
    return wire.Own(
        packet.id, packet.generation, packet.birth_ms or 0, packet.head, packet.body
    )


def data_of(packet: Packet) -> bytes:
    meta = (1, len(packet.head), packet.generation, packet.birth_ms or 0)
    return struct.pack(">BIIQ", *meta) + packet.head + packet.body


def props_of(packet: Packet) -> bytes:
    out: list[bytes] = []
    wire.add_content(out, wire.content_start(1, "q"), 1, packet, 1 << 17)
    whole = b"".join(out).removeprefix(wire.publish_method(1, "q"))
    size = wire.FRAME.unpack_from(whole)[2]
    return whole[7 + 12 : 7 + size]


@given(PACKETS)
def test_what_we_write_we_read(packet: Packet) -> None:
    assert wire.read(props_of(packet), data_of(packet)) == own_of(packet)


EXTRAS = st.lists(
    st.sampled_from([X_DELIVERY_COUNT, X_DEATH]) | st.tuples(NAMES, VALUES), max_size=3
)


@given(PACKETS, EXTRAS)
def test_our_own_is_read_whatever_headers_a_broker_adds(
    packet: Packet, extras: list[tuple[str, Written]]
) -> None:
    props = (
        struct.pack(">H", 0xB080)
        + short(wire.CONTENT_TYPE)
        + table(extras)
        + b"\x02"
        + short(packet.id)
    )

    assert wire.read(props, data_of(packet)) == own_of(packet)


PROPERTIES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "content_type": NAMES | st.just(wire.CONTENT_TYPE),
        "content_encoding": NAMES,
        "headers": st.dictionaries(NAMES, PYTHON_VALUES, min_size=1, max_size=4),
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "correlation_id": NAMES,
        "reply_to": NAMES,
        "expiration": NAMES,
        "message_id": NAMES | IDS,
        "timestamp": TIMES,
        "message_type": NAMES,
        "user_id": NAMES,
        "app_id": NAMES,
    },
)


@given(PROPERTIES)
def test_whatever_properties_pamqp_writes_are_read(given_: dict[str, Any]) -> None:
    props = commands.Basic.Properties(**given_).marshal()

    read = wire.read_properties(props)

    # pamqp leaves out what is empty, which says the same as nothing.
    said = {name: value or None for name, value in given_.items()}
    timestamp = given_.get("timestamp")
    assert read == wire.Foreign(
        content_type=said.get("content_type"),
        headers=cast("dict[str, object]", as_read(given_.get("headers", {}))),
        message_id=said.get("message_id"),
        timestamp_s=None if timestamp is None else int(timestamp.timestamp()),
        type=said.get("message_type"),
        reply_to=said.get("reply_to"),
        correlation_id=said.get("correlation_id"),
    )


@given(PROPERTIES, PACKETS)
def test_our_own_is_read_beside_any_other_property(
    given_: dict[str, Any], packet: Packet
) -> None:
    all_: dict[str, Any] = {
        **given_,
        "content_type": wire.CONTENT_TYPE,
        "message_id": packet.id,
    }

    props = commands.Basic.Properties(**all_).marshal()

    assert wire.read(props, data_of(packet)) == own_of(packet)


@given(FIELDS)
def test_a_table_is_read_by_every_letter_that_amqp_has(fields: dict[str, Written]) -> None:
    props = b"\x20\x00" + table(list(fields.items()))

    read = wire.read_properties(props)

    assert read == wire.Foreign(headers={name: value for name, (_, value) in fields.items()})


@pytest.mark.parametrize("letter", ["A", "F"])
@pytest.mark.parametrize("extra", [0, 1, 5, 5_000])
def test_tables_are_read_up_to_so_many_levels(letter: str, extra: int) -> None:
    value = b"V"
    for _ in range(wire.MAX_NESTED - 1 + extra):
        value = letter.encode() + long(value if letter == "A" else short("n") + value)
    props = b"\x20\x00" + long(short("n") + value)

    if not extra:
        assert isinstance(wire.read_properties(props), wire.Foreign)
    else:
        with pytest.raises(CodecError, match="nested deeper"):
            wire.read_properties(props)


# -- what nobody should write ---------------------------------------------------------------


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Draw properties with bytes changed on the way, or bytes that never were any."""
    good = draw(
        st.one_of(
            PACKETS.map(props_of),
            FIELDS.map(lambda it: b"\x20\x00" + table(list(it.items()))),
            PROPERTIES.map(lambda it: bytes(commands.Basic.Properties(**it).marshal())),
            st.binary(max_size=60),
        )
    )
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(good)))
        gone = draw(st.integers(0, 3))
        good = good[:at] + draw(st.binary(max_size=3)) + good[at + gone :]
    return good


@st.composite
def spoilt_data(draw: st.DrawFn) -> bytes:
    good = data_of(draw(PACKETS))
    at = draw(st.integers(0, len(good)))
    return good[:at] + draw(st.binary(max_size=3)) + good[at + draw(st.integers(0, 3)) :]


@given(spoilt() | PACKETS.map(props_of), spoilt_data() | st.binary(max_size=60))
def test_any_bytes_are_a_message_or_are_refused_in_one_way(props: bytes, data: bytes) -> None:
    try:
        read = wire.read(props, data)
    except CodecError:
        return
    assert isinstance(read, (wire.Own, wire.Foreign))


SIZES = {"t": 1, "b": 1, "s": 2, "I": 4, "l": 8, "f": 4, "d": 8, "D": 5, "T": 8}


@pytest.mark.parametrize("letter", SIZES)
def test_a_value_that_is_cut_short_is_refused(letter: str) -> None:
    for size in range(SIZES[letter]):
        with pytest.raises(CodecError):
            wire.read_properties(b"\x20\x00" + long(short("n") + letter.encode() + bytes(size)))


def test_properties_that_are_cut_short_are_refused() -> None:
    whole = b"\x20\x00" + table([X_DEATH, X_DELIVERY_COUNT])

    for end in range(2, len(whole)):
        with pytest.raises(CodecError):
            wire.read_properties(whole[:end])


def test_text_that_is_no_utf_8_is_read_all_the_same() -> None:
    read = wire.read_properties(b"\xa0\x00\x02a\xff" + long(b"\x01n" + b"S" + long(b"b\xff")))

    assert read == wire.Foreign(content_type="a\ufffd", headers={"n": "b\ufffd"})


TRANSPORT = RabbitTransport("amqp://nowhere", app="a")


def example_of(packet: Packet) -> tuple[bytes, bytes]:
    return props_of(packet), data_of(packet)


@given(
    st.tuples(spoilt(), st.binary(max_size=9)) | st.tuples(PACKETS.map(props_of), spoilt_data())
)
@example((b"\x00\x40" + b"\xff" * 8, b""))  # a timestamp of 2 ** 64 - 1 seconds
@example(example_of(Packet(queue="q", id="no hexadecimal digits, only text", head=b"")))
@example(example_of(Packet(queue="q", id="0" * 32, generation=2**32 - 1, head=b"")))
@example(example_of(Packet(queue="q", id="0" * 32, birth_ms=2**64 - 1, head=b"")))
@example(
    (props_of(Packet(queue="q", id="0" * 32, head=b"")), b"\x01\xff\xff\xff\xff" + bytes(12))
)
def test_any_bytes_are_a_packet_that_a_store_can_keep(arrived: tuple[bytes, bytes]) -> None:
    props, data = arrived

    packet = TRANSPORT.packet("q", props, data)

    assert packet.queue == "q"
    assert data.endswith(packet.body)
    assert f"{int(packet.id, 16):032x}" == packet.id
    assert 0 <= packet.generation < 2**31
    assert packet.birth_ms is not None
    assert 0 <= packet.birth_ms <= wire.MAX_BIRTH_MS
