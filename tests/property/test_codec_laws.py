"""The laws of bodies: every message comes back, and every other body is refused in one way."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit import Blob, Message, field
from rolekit.errors import CodecError, UnknownType
from rolekit.model.codec import Codec
from rolekit.model.envelope import MAX_BODY_BYTES, CodecName
from rolekit.model.message import wire_name
from rolekit.model.nesting import MAX_NESTING

pytestmark = pytest.mark.timeout(60)


class Line(Message):
    text: str
    pieces: int = 1
    weight: float | None = None


class Order(Message, name="order", version=2):
    number: int
    at: dt.datetime
    lines: list[Line] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    seal: bytes = b""
    label: Blob | None = None

    @classmethod
    def upgrade(cls, fields: dict[str, object], version: int) -> dict[str, object]:
        return {**fields, "notes": {}}


class Tree(Message):
    name: str
    under: list[Tree] = field(default_factory=list)


class Loose(Message):
    value: Any


CLASSES = (Line, Order, Tree, Loose)
CODECS: tuple[CodecName, ...] = ("json", "msgpack")
BY_NAME: dict[CodecName, Codec] = {
    name: Codec({wire_name(c): c for c in CLASSES}, {c: wire_name(c) for c in CLASSES}, name)
    for name in CODECS
}
NAMES = st.sampled_from(CODECS)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=6)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LINES = st.builds(Line, text=TEXT, pieces=NUMBERS, weight=FLOATS | st.none())
ORDERS = st.builds(
    Order,
    number=NUMBERS,
    at=st.datetimes(timezones=st.just(dt.UTC)),
    lines=st.lists(LINES, max_size=3),
    notes=st.dictionaries(TEXT, TEXT, max_size=3),
    seal=st.binary(max_size=12),
    label=st.none() | st.builds(Blob, id=TEXT, size_bytes=NUMBERS),
)
TREES = st.recursive(
    st.builds(Tree, name=TEXT),
    lambda inner: st.builds(Tree, name=TEXT, under=st.lists(inner, max_size=2)),
    max_leaves=6,
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MESSAGES = LINES | ORDERS | TREES | st.builds(Loose, value=VALUES)


@given(MESSAGES, NAMES)
def test_every_message_comes_back_as_it_was(message: Message, name: CodecName) -> None:
    codec = BY_NAME[name]

    wire, version, body = codec.encode(message)

    assert codec.decode(wire, version, name, body) == message


TYPES = st.sampled_from([*map(wire_name, CLASSES), "nobody"])


@given(TYPES, st.integers(-1, 3), st.sampled_from([*CODECS, "xml"]), st.binary(max_size=40))
def test_any_bytes_are_a_message_or_are_refused(
    wire: str, version: int, name: str, body: bytes
) -> None:
    read(wire, version, name, body)


@given(MESSAGES, NAMES, st.data())
def test_a_body_with_bytes_changed_on_the_way_is_a_message_or_is_refused(
    message: Message, name: CodecName, data: st.DataObject
) -> None:
    wire, version, good = BY_NAME[name].encode(message)
    at = data.draw(st.integers(0, len(good)))
    length = data.draw(st.integers(0, 3))

    read(
        wire, version, name, good[:at] + data.draw(st.binary(max_size=3)) + good[at + length :]
    )


@given(TYPES, st.integers(1, 2), NAMES, VALUES | st.dictionaries(TEXT, VALUES, max_size=3))
def test_any_value_is_a_message_or_is_refused(
    wire: str, version: int, name: CodecName, value: object
) -> None:
    encode = msgspec.json.encode if name == "json" else msgspec.msgpack.encode

    read(wire, version, name, encode(value))


def read(wire: str, version: int, name: str, body: bytes) -> None:
    """Nothing but the two errors that say so may come of a bad body."""
    try:
        message = BY_NAME["json"].decode(wire, version, name, body)
    except (CodecError, UnknownType):
        return
    assert isinstance(message, CLASSES)


@given(st.text() | st.integers() | st.floats() | st.binary(max_size=9), NAMES)
def test_a_value_of_any_size_is_written_or_is_refused(value: object, name: CodecName) -> None:
    try:
        BY_NAME[name].encode(Loose(value=value))
    except CodecError:
        return


@pytest.mark.parametrize("digits", [4_000, 5_000, 100_000])
@pytest.mark.parametrize("wire", ["Loose", "order", "Line"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_number_of_many_digits_is_read_or_is_refused(
    wire: str, version: int, digits: int
) -> None:
    number = b"9" * digits
    body = b'{"value": %b, "text": "t", "pieces": %b, "number": %b}' % (number, number, number)

    read(wire, version, "json", body)


@given(depth=st.integers(MAX_NESTING - 3, MAX_NESTING + 3), name=NAMES, as_tree=st.booleans())
def test_a_body_is_read_up_to_so_many_levels(
    depth: int, name: CodecName, *, as_tree: bool
) -> None:
    value: Any = {"name": "leaf"} if as_tree else []
    levels = 1
    while levels < depth - (0 if as_tree else 1):
        step = 2 if as_tree else 1
        value = {"name": "", "under": [value]} if as_tree else [value]
        levels += step
    body_of: Any = msgspec.json.encode if name == "json" else msgspec.msgpack.encode
    wire, total = ("Tree", levels) if as_tree else ("Loose", levels + 1)
    body = body_of(value if as_tree else {"value": value})

    if total <= MAX_NESTING:
        assert BY_NAME[name].decode(wire, 1, name, body) is not None
    else:
        with pytest.raises(CodecError, match="nested deeper"):
            BY_NAME[name].decode(wire, 1, name, body)


@pytest.mark.parametrize("depth", [MAX_NESTING + 1, 1_000, 10_000, 200_000])
@pytest.mark.parametrize("bracket", [b"[", b'{"a":', b"\x91", b"\x81\xa1a"])
def test_a_body_of_brackets_alone_is_refused(depth: int, bracket: bytes) -> None:
    body = bracket * depth

    for name in CODECS:
        for wire in ("Loose", "Tree", "order", "Line"):
            with pytest.raises((CodecError, UnknownType)):
                BY_NAME["json"].decode(wire, 1, name, body)


@given(st.integers(-40, 40), NAMES)
def test_a_body_is_written_and_read_up_to_so_many_bytes(extra: int, name: CodecName) -> None:
    codec = BY_NAME[name]
    frame = len(codec.encode(Line(text="x" * 70_000))[2]) - 70_000
    text = "x" * (MAX_BODY_BYTES - frame + extra)
    body_of: Any = msgspec.json.encode if name == "json" else msgspec.msgpack.encode
    whole = body_of(Line(text=text))

    if extra <= 0:
        assert codec.decode("Line", 1, name, codec.encode(Line(text=text))[2]) is not None
    else:
        with pytest.raises(CodecError, match="allowed"):
            codec.encode(Line(text=text))
        with pytest.raises(CodecError, match="allowed"):
            codec.decode("Line", 1, name, whole)
