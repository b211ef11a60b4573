"""What comes back: results by kind, and one status per error."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from starlette.exceptions import HTTPException
from structlog.testing import capture_logs

from rolekit import web
from rolekit.errors import (
    Failed,
    IntakeFull,
    PublishUnknown,
    Reject,
    Retry,
    RolekitError,
    TimedOut,
    Unavailable,
)
from rolekit.flow.request import UnknownId
from rolekit.roles.http_limits import Limits
from rolekit.roles.web import WebRole
from tests.unit.fakes_web import FakeClient
from tests.unit.web_front import Front, Mail, Picky, calling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

MAIL = {"sender": "a@x", "recipients": ["b@x"]}


async def test_a_receipt_is_202_with_its_place() -> None:
    client = FakeClient()
    async with calling(Front(), client) as http:
        answer = await http.post("/mail", json=MAIL)

    assert answer.status_code == 202
    assert answer.headers["location"] == "/mail/m1"
    assert answer.json() == {"id": "m1"}
    assert client.sent == [Mail(sender="a@x", recipients=["b@x"])]


async def test_none_is_204_and_a_plain_function_runs_in_a_thread() -> None:
    role = Front()
    async with calling(role) as http:
        answer = await http.delete("/mail/m1")

    assert answer.status_code == 204
    assert answer.content == b""
    assert role.removed[0] == "m1"
    assert role.removed[1] is not threading.current_thread()


async def test_health_is_ok_unless_the_role_says_otherwise() -> None:
    class Sick(WebRole):
        @web.get("/healthz", status=200)
        async def health(self) -> None:
            raise HTTPException(503, "not yet")

    async with calling(Front()) as http:
        well = await http.get("/healthz")
    async with calling(Sick()) as http:
        sick = await http.get("/healthz")

    assert (well.status_code, well.text) == (200, "ok")
    assert sick.status_code == 503


@pytest.mark.parametrize(
    ("error", "status", "member"),
    [
        (UnknownId("Nothing."), 404, {}),
        (Reject("no such shop"), 422, {"detail": "no such shop"}),
        (Failed("It died.", dead_letter_id="d1"), 502, {"dead_letter_id": "d1"}),
        (TimedOut("Late.", receipt_id="m1"), 504, {"receipt_id": "m1"}),
        (IntakeFull("Full."), 503, {"detail": "Full."}),
        (Unavailable("10.0.0.1 is away."), 503, {}),
        (PublishUnknown("Perhaps."), 503, {}),
        (Retry("busy"), 503, {"detail": "busy"}),
        (HTTPException(418, "teapot"), 418, {"detail": "teapot"}),
    ],
)
async def test_an_error_has_its_status_and_nothing_is_sent(
    error: Exception, status: int, member: dict[str, str]
) -> None:
    role, client = Picky(), FakeClient()
    role.error = error
    async with calling(role, client) as http:
        answer = await http.post("/fail", json=MAIL)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().items() >= {"status": status, **member}.items()
    assert ("retry-after" in answer.headers) == (status == 503)
    assert client.sent == []


async def test_where_the_broker_stands_is_not_told() -> None:
    role = Picky()
    role.error = Unavailable("amqp://10.0.0.1 does not answer.")
    async with calling(role) as http:
        answer = await http.post("/fail", json=MAIL)

    assert "10.0.0.1" not in answer.text


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), RolekitError("secret")])
async def test_what_nobody_foresaw_is_logged_and_says_nothing(error: Exception) -> None:
    role = Picky()
    role.error = error
    with capture_logs() as logs:
        async with calling(role) as http:
            answer = await http.post("/fail", json=MAIL)

    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert [(log["path"], log["exc_info"]) for log in logs] == [("/fail", error)]


async def test_no_route_and_no_method_are_problems_too() -> None:
    async with calling(Front()) as http:
        nowhere = await http.get("/nowhere")
        method = await http.put("/mail")

    assert (nowhere.status_code, nowhere.json()["status"]) == (404, 404)
    assert (method.status_code, method.headers["allow"]) == (405, "POST")


async def test_a_typed_body_is_bounded_more_tightly_than_bytes() -> None:
    large = b" " * ((1 << 20) + 1)
    async with calling(Front()) as http:
        typed = await http.post("/mail", content=large)
        plain = await http.put("/raw", content=large)
        larger = await http.put("/raw", content=large * 5)

    assert [typed.status_code, plain.status_code, larger.status_code] == [413, 200, 413]


async def test_a_body_without_length_is_cut_off_at_the_limit() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100_000):
            yield b"x" * 1000

    async with calling(Front(), limits=Limits(linger_s=0)) as http:
        answer = await http.post("/stream", content=endless())

    assert answer.status_code == 413


async def test_length_and_chunks_together_are_refused() -> None:
    async with calling(Front()) as http:
        answer = await http.put(
            "/raw",
            content=b"ab",
            headers={"Transfer-Encoding": "chunked", "Content-Length": "2"},
        )

    assert answer.status_code == 400


async def test_a_transaction_outside_an_instance_is_refused_with_a_sentence() -> None:
    with pytest.raises(RolekitError, match="outside a running instance"):
        Front().tx()
