"""Values of AMQP header tables: bytes, and what should be read of them."""

from __future__ import annotations

import datetime as dt
import struct
from decimal import Decimal
from typing import TypeAlias, cast

from hypothesis import strategies as st

Written: TypeAlias = tuple[bytes, object]
"""A value with its letter as it is on the wire, and as it is read."""

NAMES = st.text(max_size=8)


def short(text: str) -> bytes:
    raw = text.encode()
    return bytes([len(raw)]) + raw


def long(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def table(fields: list[tuple[str, Written]]) -> bytes:
    """Write a table, with its length before it."""
    return long(b"".join(short(name) + value for name, (value, _) in fields))


def _packed(
    letter: str, form: str, values: st.SearchStrategy[int]
) -> st.SearchStrategy[Written]:
    return values.map(lambda it: (letter.encode() + struct.pack(">" + form, it), it))


def _whole(letter: str, form: str, bits: int, *, signed: bool) -> st.SearchStrategy[Written]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return _packed(letter, form, st.integers(low, high))


SCALARS: st.SearchStrategy[Written] = st.one_of(
    _whole("b", "b", 8, signed=True),
    _whole("B", "B", 8, signed=False),
    _whole("s", "h", 16, signed=True),
    _whole("U", "h", 16, signed=True),
    _whole("u", "H", 16, signed=False),
    _whole("I", "i", 32, signed=True),
    _whole("i", "I", 32, signed=False),
    _whole("l", "q", 64, signed=True),
    _whole("L", "q", 64, signed=True),
    _whole("T", "Q", 64, signed=False),
    st.booleans().map(lambda it: (b"t" + bytes([it]), it)),
    st.floats(width=32, allow_nan=False).map(lambda it: (b"f" + struct.pack(">f", it), it)),
    st.floats(allow_nan=False).map(lambda it: (b"d" + struct.pack(">d", it), it)),
    st.tuples(st.integers(0, 255), st.integers(-(2**31), 2**31 - 1)).map(
        lambda it: (b"D" + struct.pack(">Bi", *it), float(Decimal(it[1]).scaleb(-it[0])))
    ),
    st.text(max_size=8).map(lambda it: (b"S" + long(it.encode()), it)),
    st.binary(max_size=8).map(lambda it: (b"x" + long(it), it)),
    st.just((b"V", None)),
)


def _array(values: list[Written]) -> Written:
    return b"A" + long(b"".join(raw for raw, _ in values)), [read for _, read in values]


def _nested(fields: dict[str, Written]) -> Written:
    read = {name: value for name, (_, value) in fields.items()}
    return b"F" + table(list(fields.items())), read


VALUES: st.SearchStrategy[Written] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(_array),
        st.dictionaries(NAMES, inner, max_size=3).map(_nested),
    ),
    max_leaves=5,
)
FIELDS = st.dictionaries(NAMES, VALUES, max_size=4)

X_DELIVERY_COUNT: tuple[str, Written] = ("x-delivery-count", (b"l" + struct.pack(">q", 3), 3))
X_DEATH: tuple[str, Written] = (
    "x-death",
    _array([_nested({
        "count": (b"l" + struct.pack(">q", 1), 1),
        "reason": (b"S" + long(b"delivery_limit"), "delivery_limit"),
        "time": (b"T" + struct.pack(">Q", 1_800_000_000), 1_800_000_000),
        "routing-keys": _array([(b"S" + long(b"shop.pay"), "shop.pay")]),
    })]),
)  # fmt: skip

# -- as pamqp takes them ----------------------------------------------------------------------

_TIMES = st.integers(0, 253_402_300_799).map(lambda it: dt.datetime.fromtimestamp(it, dt.UTC))
_DECIMALS = st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 27)).map(
    lambda it: Decimal(it[0]).scaleb(-it[1])
)
PYTHON_VALUES: st.SearchStrategy[object] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(width=32, allow_nan=False),
        _DECIMALS,
        _TIMES,
        st.text(max_size=8),
        st.binary(max_size=8).map(bytearray),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)
    ),
    max_leaves=6,
)
TIMES = _TIMES


def as_read(value: object) -> object:
    """Say what rolekit reads of a value that pamqp wrote."""
    match value:
        case dt.datetime():
            return int(value.timestamp())
        case Decimal():
            return float(value)
        case bytearray():
            return bytes(value)
        case list():
            return [as_read(each) for each in cast("list[object]", value)]
        case dict():
            fields = cast("dict[str, object]", value)
            return {name: as_read(each) for name, each in fields.items()}
        case _:
            return value
