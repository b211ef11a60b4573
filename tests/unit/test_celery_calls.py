"""Calls of Celery's tasks as messages."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from typing import Any
from uuid import UUID

import pydantic
import pytest

from rolekit import Message, Reject, Retry
from rolekit.errors import CodecError
from rolekit.model import celery
from rolekit.model.codec import Codec
from rolekit.model.message import field

DUMPS: Any = import_module("kombu.utils.json").dumps  # which has no types
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
NOW_MS = 1_800_000_000_000


class Charge(Message, name="shop.charge"):
    order: str
    cents: int = 0
    currency: str = field(default="EUR", name="ccy")


class Rich(Message):
    at: dt.datetime
    price: Decimal
    key: UUID
    raw: bytes
    days: list[dt.date] = field(default_factory=list[dt.date])


@dataclass(frozen=True)
class Plain:
    a: int
    b: int = 2


class Model(pydantic.BaseModel):
    a: int
    b: int = 2


CLASSES = {"shop.charge": Charge, "Rich": Rich, "plain": Plain, "model": Model}
CODEC = Codec(CLASSES, {cls: name for name, cls in CLASSES.items()})


def call(*args: object, embed: dict[str, object] | None = None, **kwargs: object) -> bytes:
    text: str = DUMPS([args, kwargs, EMBED | (embed or {})])
    return text.encode()


def read(type_: str, body: bytes) -> object:
    return CODEC.decode(type_, 1, celery.CODEC, body)


@pytest.mark.parametrize(
    ("body", "charge"),
    [
        (call("1"), Charge(order="1")),
        (call("1", 5), Charge(order="1", cents=5)),
        (call("1", cents=5), Charge(order="1", cents=5)),
        (call(order="1", ccy="USD"), Charge(order="1", currency="USD")),
        (call("1", 5, "USD"), Charge(order="1", cents=5, currency="USD")),
        (call("1", unknown=3), Charge(order="1")),
        (b'[["1"], {}, null]', Charge(order="1")),
    ],
)
def test_arguments_become_fields_by_position_and_by_name(body: bytes, charge: Charge) -> None:
    assert read("shop.charge", body) == charge


def test_what_json_does_not_have_comes_through() -> None:
    at = dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC)
    body = call(at, Decimal("1.10"), UUID(int=7), b"\xff\x00", days=[dt.date(2026, 1, 2)])

    assert read("Rich", body) == Rich(
        at=at, price=Decimal("1.10"), key=UUID(int=7), raw=b"\xff\x00",
        days=[dt.date(2026, 1, 2)],
    )  # fmt: skip
    assert read("Rich", call(at, Decimal(1), UUID(int=7), b"text")) == Rich(
        at=at, price=Decimal(1), key=UUID(int=7), raw=b"text"
    )


def test_classes_of_others_are_filled_too() -> None:
    assert read("plain", call(1, b=3)) == Plain(1, 3)
    assert read("model", call(1, b=3)) == Model(a=1, b=3)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (call("1", 5, "USD", 4), "it has 4 arguments, and there are 3 fields"),
        (call("1", order="2"), "it has two values for order"),
        (call("1", "five"), "Expected `int`, got `str`"),
        (call(), "missing required field `order`"),
        (call("1", embed={"chain": [{"task": "next"}]}), "it has a chain, which only a worker"),
        (call("1", embed={"chord": {"task": "sum"}}), "it has a chord"),
        (call("1", embed={"callbacks": [{"task": "x"}]}), "it has a callbacks"),
        (b'{"order": "1"}', "cannot be read"),
        (b"[1]", "cannot be read"),
        (b"\x80\x04pickle", "cannot be read"),
        (b"[" * 10_000, "cannot be read"),
        (b'[[{"__type__": "base64", "__value__": "!"}], {}, null]', "cannot be read"),
        (b'[[{"__type__": "base64", "__value__": "abc"}], {}, null]', "cannot be read"),
        (b'[[{"__type__": "uuid", "__value__": {}}], {}, null]', "cannot be read"),
        (b'[[{"__type__": [], "__value__": {}}], {}, null]', "cannot be read"),
    ],
)
def test_what_is_no_such_call_is_refused_with_a_sentence(body: bytes, why: str) -> None:
    with pytest.raises(CodecError, match=r"The body of a shop\.charge") as caught:
        read("shop.charge", body)

    assert why in caught.value.what


def test_a_call_for_later_is_put_off_and_uses_up_no_attempt() -> None:
    headers = {"eta": "2027-01-15T08:00:10+00:00", "expires": None}
    body = celery.timed(headers, call("1"))

    with pytest.raises(Retry, match="not due before 2027-01-15T08:00:10") as caught:
        celery.check_times(body, NOW_MS)
    celery.check_times(body, NOW_MS + 10_000)

    assert (caught.value.delay_s, caught.value.counts) == (10.0, False)
    assert read("shop.charge", body) == Charge(order="1")


def test_a_call_that_expired_is_rejected() -> None:
    body = celery.timed({"expires": "2027-01-15T07:00:00"}, call("1"))

    with pytest.raises(Reject) as caught:
        celery.check_times(body, NOW_MS)

    assert caught.value.reason == "its sender let it expire at 2027-01-15T07:00:00+00:00"


@pytest.mark.parametrize("eta", [None, 5, "soon", ""])
def test_a_call_without_times_stays_as_it_is(eta: object) -> None:
    assert celery.timed({"eta": eta}, call("1")) == call("1")
    celery.check_times(call("1"), NOW_MS)


def test_only_the_senders_own_headers_travel_on() -> None:
    headers = {"task": "t", "id": "i", "argsrepr": "('1',)", "tenant": "blue", "retries": 0}

    assert celery.is_task(headers)
    assert not celery.is_task({"task": "t"})
    assert celery.kept(headers) == {"tenant": "blue"}


def test_a_body_of_another_kind_is_refused_by_its_name() -> None:
    with pytest.raises(CodecError, match="encoded as 'application/x-python-serialize'"):
        CODEC.decode("shop.charge", 1, "application/x-python-serialize", json.dumps(1).encode())
