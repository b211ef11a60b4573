"""The control API: what is asked, what is answered, how a wrong request is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import httpx
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from rolekit.supervisor.control import ENDPOINTS, Endpoint, Nothing
from rolekit.supervisor.control_openapi import document
from rolekit.supervisor.control_server import application
from tests.unit.fakes_fleet import FakeFleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from rolekit.supervisor.control import Controlled

pytestmark = pytest.mark.anyio


def asking(fleet: FakeFleet) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application(fleet))
    return httpx.AsyncClient(transport=transport, base_url="http://x")


async def test_an_order_is_done_and_answered() -> None:
    fleet = FakeFleet()
    async with asking(fleet) as http:
        answer = await http.post("/scale", json={"role": "Deliverer", "count": "+1"})

    assert answer.json() == {"role": "Deliverer", "instances": 5}
    assert fleet.orders == [("scale", "Deliverer", "+1")]


async def test_what_cannot_be_done_is_400_with_what_to_do() -> None:
    async with asking(FakeFleet()) as http:
        answer = await http.post("/scale", json={"role": "X", "count": "1"})

    assert answer.status_code == 400
    assert answer.json() == {"what": "There is no role X.", "fix": "The roles are Deliverer."}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/scale", b"{", 400, "cannot be read"),
        ("POST", "/scale", b'{"role": 1, "count": "1"}', 400, "Expected `str`, got `int`"),
        ("POST", "/stop", b'{"hrad": true}', 400, "unknown field `hrad`"),
        ("GET", "/ps?x=1", b"", 400, "unknown field `x`"),
        ("GET", "/pss", b"", 404, "GET /pss: Not Found."),
        ("GET", "/scale", b"", 405, "GET /scale: Method Not Allowed."),
        ("POST", "/scale", b" " * 65_537, 413, "More than 65536 bytes came."),
    ],
)
async def test_a_wrong_request_is_refused_with_a_sentence(
    method: str, path: str, body: bytes, status: int, says: str
) -> None:
    fleet = FakeFleet()
    async with asking(fleet) as http:
        answer = await http.request(method, path, content=body)

    assert answer.status_code == status
    assert says in answer.json()["what"]
    assert fleet.orders == []


async def test_not_ready_is_503() -> None:
    fleet = FakeFleet()
    async with asking(fleet) as http:
        while_ready = await http.get("/ready")
        fleet.ready = False
        then = await http.get("/ready")

    assert (while_ready.status_code, while_ready.json()) == (200, {"ready": True})
    assert (then.status_code, then.json()) == (503, {"ready": False})


class Line(msgspec.Struct):
    """Of a stream."""

    number: int


class Until(msgspec.Struct):
    """How many."""

    last: int = 1


async def _count(_fleet: Controlled, order: Until) -> AsyncIterator[Line]:
    for number in range(order.last):
        yield Line(number)


COUNT = Endpoint(
    method="GET",
    path="/count",
    summary="Count",
    act=_count,
    order=Until,
    answer=Line,
    is_stream=True,
)


async def test_a_stream_is_a_line_each_and_its_order_is_the_query() -> None:
    transport = httpx.ASGITransport(application(FakeFleet(), (COUNT,)))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        answer = await http.get("/count?last=2")

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text == '{"number":0}\n{"number":1}\n'


async def test_the_openapi_document_is_served_and_valid() -> None:
    async with asking(FakeFleet()) as http:
        found = (await http.get("/openapi.json")).json()

    OpenAPIV31SpecValidator(found).validate()
    assert set(found["paths"]) == {"/metrics", *(one.path for one in ENDPOINTS)}
    text = found["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert list(text) == ["text/plain; version=0.0.4"]
    body = found["paths"]["/scale"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/ScaleOrder"}
    assert found["components"]["schemas"]["ScaleOrder"]["required"] == ["role", "count"]


def test_a_query_and_a_stream_are_described_as_such() -> None:
    found = document((COUNT,))

    OpenAPIV31SpecValidator(cast("Mapping[str, object]", found)).validate()
    operation = msgspec.convert(found["paths"], dict[str, dict[str, dict[str, object]]])
    get = operation["/count"]["get"]
    assert get["parameters"] == [
        {"name": "last", "in": "query", "required": False, "schema": {"type": "integer"}}
    ]
    assert "application/x-ndjson" in str(get["responses"])


def test_every_endpoint_but_readiness_wants_a_token_and_takes_known_orders_only() -> None:
    public = [one.path for one in ENDPOINTS if one.is_public]

    assert public == ["/ready"]
    for one in ENDPOINTS:
        assert one.order is Nothing or one.order.__struct_config__.forbid_unknown_fields
