"""The front that the tests of rolekit.web share, and two ways to call it."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import httpx
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from rolekit import web
from rolekit.model.message import Message, Receipt, Reply
from rolekit.roles.http_app import asgi
from rolekit.roles.http_server import serve
from rolekit.roles.web import WebRole
from tests.unit.fakes_web import FakeClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.flow.app_client import AppClient
    from rolekit.roles.http_limits import Limits


class Mail(Message):
    """What is posted."""

    sender: str
    recipients: list[str]


class Progress(Reply):
    """What comes on the way."""

    done: int


class Report(Reply):
    """What comes last."""

    lines: list[str]


@dataclass(frozen=True)
class Note:
    """A message that is not rolekit's own class."""

    text: str


class Front(WebRole):
    """One route of each kind."""

    max_body_bytes = 4 << 20

    @web.post("/mail", status=202)
    async def compose(self, mail: Mail) -> Receipt:
        return await self.client.send(mail)

    @web.post("/notes", status=201)
    async def note(self, note: Note) -> Note:
        return note

    @web.get("/mail/{id}/live")
    def live(self, id: str) -> AsyncIterator[Progress | Report]:  # noqa: A002  as users write
        return self.client.follow(id, Progress, until=Report)

    @web.get("/numbers/{number:int}")
    async def number(
        self, number: int, unit: UUID, *, page: int = 1, size: int | None = None
    ) -> Response:
        return PlainTextResponse(f"{number} {unit} {page} {size}")

    @web.put("/raw")
    async def raw(self, data: bytes) -> Progress:
        return Progress(done=len(data))

    @web.post("/stream")
    async def stream(self, request: Request, title: str = "untitled") -> Progress:
        size = sum([len(part) async for part in request.stream()])
        await self.client.send(Note(text=title))
        return Progress(done=size)

    @web.delete("/mail/{id}")
    def remove(self, id: str) -> None:  # noqa: A002  a plain function, run in a thread
        self.removed = id, threading.current_thread()


class Picky(WebRole):
    """Sends, then fails as told."""

    error: Exception

    @web.post("/fail")
    async def fail(self, mail: Mail) -> Receipt:
        await self.client.send(mail)
        raise self.error


@asynccontextmanager
async def calling(
    role: WebRole, client: FakeClient | AppClient | None = None, *, limits: Limits | None = None
) -> AsyncGenerator[httpx.AsyncClient]:
    """Call the role's app without a server."""
    app = asgi(role, client or FakeClient(), limits=limits)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://front") as http:
        yield http


@dataclass
class Served:
    """A role on a real socket."""

    http: httpx.AsyncClient
    listening: socket.socket
    port: int
    stopping: anyio.Event
    stopped: anyio.Event


@asynccontextmanager
async def serving(
    role: WebRole, client: FakeClient | None = None, *, limits: Limits | None = None
) -> AsyncGenerator[Served]:
    """Serve the role on a free port, through `serve`."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    served = Served(
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False),
        listening,
        port,
        anyio.Event(),
        anyio.Event(),
    )

    async def run() -> None:
        await serve(
            role, client or FakeClient(), listening, stopping=served.stopping, limits=limits
        )
        served.stopped.set()

    async with anyio.create_task_group() as tasks, served.http:
        tasks.start_soon(run)
        yield served
        await served.http.aclose()
        served.stopping.set()
