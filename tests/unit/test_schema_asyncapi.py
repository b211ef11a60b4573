"""The queues of an app as AsyncAPI: valid, whole, and true to what is on the wire."""

# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import datetime as dt
import importlib
import json
import lzma
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import attrs
import msgspec
import pytest
from pydantic import BaseModel

from rolekit import (
    App,
    Batch,
    Blob,
    Context,
    DeadLetter,
    Message,
    Reply,
    WorkerRole,
    every,
    handle,
)
from rolekit.errors import AppError
from rolekit.model.codec import Codec
from rolekit.schema import asyncapi
from rolekit.transport.rabbitmq.topology import Names
from tests.unit.json_schemas import check_schema, complaints, found, refs_in

OFFICIAL = Path(__file__).parent / "schemas" / "asyncapi-3.0.0.json.xz"
PROGRAMS = [
    "examples.mailflow.app",
    *(
        f"tests.typing.programs.{name}"
        for name in (
            "letters",
            "subtitles",
            "bookings",
            "translations",
            "gallery",
            "rates",
            "archive",
        )
    ),
]


class Colour(Enum):
    RED = "red"


class Line(Message):
    sku: str
    at: tuple[int, str]


class Order(Message, name="shop.order", version=3, aliases=("order",)):
    """What somebody wants."""

    number: UUID
    day: dt.date
    lines: list[Line]
    customer: str
    colour: Colour = Colour.RED
    note: str | None = None
    size: Literal["s", "m"] = "s"
    weight: Annotated[float, msgspec.Meta(ge=0)] = 0
    scan: Blob | None = None
    data: bytes = b""
    more: dict[str, int] = {}  # noqa: RUF012 - msgspec makes a new one each time


@dataclass(frozen=True)
class Plain:
    n: int


@attrs.frozen
class Shelf:
    name: str


class Inner(BaseModel):
    n: int


class Modelled(BaseModel):
    inner: Inner


class Done(Reply):
    number: str


class Invoice(Message):
    cents: int


class Shop(WorkerRole):
    partitions = 3

    @handle(key="customer", timeout_s=20)
    async def take(self, order: Order, ctx: Context[Invoice]) -> Plain | Done:
        """Take an order.

        And more of it.
        """
        raise NotImplementedError

    @handle(name="odd:name")
    async def odd(self, plain: Plain | Modelled | DeadLetter[Order]) -> list[Shelf]:
        raise NotImplementedError

    @handle(source="their queue")
    async def shelves(self, shelf: Batch[Shelf]) -> None: ...

    @every(60)
    async def tick(self) -> Modelled:
        raise NotImplementedError


shop = App("shop", roles=[Shop], outside={Invoice: "billing"})


def made() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(asyncapi(shop, release="1.2")))
    return document


def payload(document: dict[str, Any], message: str) -> dict[str, Any]:
    """Return the schema of a message, with all that it may refer to."""
    schema = document["components"]["messages"][message]["payload"]
    return {"components": document["components"], **schema}


@pytest.fixture(scope="module")
def official() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(lzma.decompress(OFFICIAL.read_bytes()))
    return schema


@pytest.mark.parametrize("program", [*PROGRAMS, ""])
def test_the_document_is_valid_by_the_official_schema(
    program: str, official: dict[str, Any]
) -> None:
    app = importlib.import_module(program).app if program else shop

    document = json.loads(json.dumps(asyncapi(app, release="1")))

    assert complaints(official, document) == []
    for ref in refs_in(document):
        found(document, ref)
    for operation in document["operations"].values():
        channel = operation["channel"]["$ref"]
        assert all(
            ref.startswith(f"{channel}/messages/") for ref in refs_in(operation["messages"])
        )
    for schema in document["components"]["schemas"].values():
        check_schema(schema)


def test_the_channels_are_the_queues_that_the_broker_has() -> None:
    document = made()

    addresses = {
        address.replace("{partition}", number) if "{" in address else address
        for channel in document["channels"].values()
        if (address := channel["address"]) is not None
        for number in channel.get("parameters", {}).get("partition", {}).get("enum", [""])
    }
    names = Names("shop")
    ours = {names.of(queue) for queue in (*shop.plan().queues(), "~in")}
    assert addresses == ours | {"their queue", "billing.@in"}
    assert "shop.Shop@k02" in addresses
    assert document["channels"]["from.their_queue"]["bindings"]["amqp"]["queue"] == {
        "name": "their queue"
    }


def test_a_handler_says_what_it_takes_gives_and_answers() -> None:
    document = made()

    take = document["operations"]["Shop.take"]
    assert take["summary"] == "Take an order."
    assert take["x-rolekit"] == {"kind": "handle", "timeout_s": 20, "key": ["customer"]}
    assert list(refs_in(take["messages"])) == ["#/channels/Shop.partitions/messages/shop.order"]
    assert list(refs_in(take["reply"])) == [
        "#/channels/replies",
        "#/channels/replies/messages/Done",
    ]
    sends = {key for key, one in document["operations"].items() if one["action"] == "send"}
    assert sends == {
        "Shop.take.to.odd_name",
        "Shop.take.to.to.billing",
        "odd_name.to.Shop.shelves",
        "Shop.tick.to.odd_name",
    }
    odd = document["operations"]["odd_name"]
    assert [ref.rpartition("/")[2] for ref in refs_in(odd["messages"])] == [
        "Plain",
        "Modelled",
        "shop.order.dead",
    ]
    assert document["operations"]["Shop.tick"]["x-rolekit"]["schedule"] == "every 60 s"


def test_a_message_says_its_wire_name_version_and_aliases() -> None:
    order = made()["components"]["messages"]["shop.order"]

    assert (order["name"], order["title"], order["summary"]) == (
        "shop.order",
        "Order",
        "What somebody wants.",
    )
    assert order["x-rolekit"] == {"version": 3, "aliases": ["order"]}
    assert order["contentType"] == "application/json"
    assert order["bindings"]["amqp"]["messageType"] == "shop.order"


ORDER = Order(
    number=UUID(int=1),
    day=dt.date(2027, 1, 1),
    lines=[Line(sku="a", at=(1, "b"))],
    customer="c",
    scan=Blob(id="b", size_bytes=1),
    data=b"\x00",
    more={"a": 1},
)


@pytest.mark.parametrize(
    ("message", "key"),
    [
        (ORDER, "shop.order"),
        (Plain(n=1), "Plain"),
        (Shelf(name="a"), "Shelf"),
        (Modelled(inner=Inner(n=1)), "Modelled"),
        (Done(number="1"), "Done"),
    ],
)
def test_what_is_on_the_wire_fits_the_payload_and_other_things_do_not(
    message: object, key: str
) -> None:
    plan = shop.plan()
    _, _, body = Codec(plan.types, plan.wire_names).encode(message)

    schema = payload(made(), key)

    assert complaints(schema, json.loads(body)) == []
    assert complaints(schema, {})


def test_a_tuple_is_as_long_and_of_what_it_says() -> None:
    line = made()["components"]["schemas"]["Line"]

    assert complaints(line, {"sku": "a", "at": [1, "b"]}) == []
    for wrong in ([1, 2], ["b", 1], [1], [1, "b", 3]):
        assert complaints(line, {"sku": "a", "at": wrong})


def test_a_field_that_no_message_can_have_is_a_sentence() -> None:
    class Odd:
        pass

    class Strange(Message):
        odd: Odd

    class Taker(WorkerRole):
        @handle
        async def take(self, strange: Strange) -> None: ...

    with pytest.raises(AppError, match=r"Strange cannot be described: <class '.*Odd'> is not"):
        asyncapi(App("strange", roles=[Taker]), release="1")
