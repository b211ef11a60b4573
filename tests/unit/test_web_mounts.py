"""Other apps under a prefix of a WebRole."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from rolekit import web
from rolekit.errors import AppError, RolekitError, TimedOut
from rolekit.flow.client import Client  # noqa: TC001  FastAPI reads it
from rolekit.roles.http_app import asgi
from rolekit.roles.web import WebRole
from tests.unit.fakes_web import FakeClient
from tests.unit.web_front import Note, calling

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio


def make_api() -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, Any]]:
        api.state.log = ["started"]
        yield {"greeting": "hello"}
        api.state.log.append("stopped")

    api = FastAPI(lifespan=lifespan)

    @api.post("/notes")
    async def note(text: str, client: Annotated[Client, Depends(web.client)]) -> dict[str, str]:
        return {"id": (await client.send(Note(text=text))).id}

    @api.get("/greeting")
    async def greeting(request: Request) -> str:
        return str(request.state.greeting)

    @api.get("/late")
    async def late() -> None:
        raise TimedOut("Late.", receipt_id="m1")

    @api.post("/size")
    async def size(body: dict[str, str]) -> int:
        return len(body)

    return api


async def greet(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as an ASGI app of no framework, without a lifespan."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    text = f"{scope['root_path']} {scope['state'].get('greeting')}"
    await PlainTextResponse(text)(scope, receive, send)


async def test_a_mounted_fastapi_app_gets_the_client_and_our_errors() -> None:
    client = FakeClient()

    class Shop(WebRole):
        mounts = {"/": make_api()}  # noqa: RUF012  as users write it

    async with calling(Shop(), client) as http:
        sent = await http.post("/notes?text=hi")
        late = await http.get("/late")
        health = await http.get("/healthz")

    assert (sent.json(), client.sent) == ({"id": "m1"}, [Note(text="hi")])
    assert (late.status_code, late.json()["receipt_id"]) == (504, "m1")
    assert health.text == "ok"


async def test_a_handler_that_the_app_has_itself_stays() -> None:
    api = make_api()

    @api.exception_handler(RolekitError)
    async def own(*_: object) -> PlainTextResponse:
        return PlainTextResponse("own", 599)

    class Shop(WebRole):
        mounts = {"/": api}  # noqa: RUF012

    async with calling(Shop()) as http:
        late = await http.get("/late")

    assert late.status_code == 599


async def test_lifespans_run_and_state_reaches_its_own_app_only() -> None:
    api = make_api()

    class Shop(WebRole):
        mounts = {"/greet": greet, "/api": api}  # noqa: RUF012

    app = asgi(Shop(), FakeClient())
    async with app.running():
        running = list(api.state.log)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
            own = await http.get("/api/greeting")
            other = await http.get("/greet/x")

    assert running == ["started"]
    assert api.state.log == ["started", "stopped"]
    assert own.json() == "hello"
    assert other.text == "/greet None"


async def test_the_longest_prefix_wins() -> None:
    class Shop(WebRole):
        mounts = {"/": make_api(), "/deep": greet}  # noqa: RUF012

    async with calling(Shop()) as http:
        answer = await http.get("/deep/x")

    assert answer.text.startswith("/deep")


async def test_an_app_that_cannot_start_is_named() -> None:
    @asynccontextmanager
    async def broken(_: FastAPI) -> AsyncGenerator[None]:
        if api.title == "Books":
            raise OSError("no disk")
        yield

    api = FastAPI(title="Books", lifespan=broken)

    class Shop(WebRole):
        mounts = {"/": api}  # noqa: RUF012

    with pytest.raises(RolekitError, match=r"Books failed.*no disk"):
        async with asgi(Shop(), FakeClient()).running():
            pytest.fail("it was served all the same")


async def test_bodies_of_mounted_apps_are_bounded_too() -> None:
    class Shop(WebRole):
        max_body_bytes = 100
        mounts = {"/": make_api()}  # noqa: RUF012

    async with calling(Shop()) as http:
        answer = await http.post("/size", json={"text": "x" * 200})

    assert answer.status_code == 413


def test_a_request_that_came_another_way_has_no_client() -> None:
    request = Request({"type": "http", "path": "/x", "headers": []})

    with pytest.raises(AppError, match="not served by a WebRole"):
        web.client(request)
