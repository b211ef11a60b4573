"""A front that leaves: its connections go to another one, or end without a reset."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import Response

from rolekit import web
from rolekit.roles import http_server
from rolekit.roles.http_passing import Passing
from rolekit.roles.web import WebRole
from tests.patience import patient
from tests.unit.fakes_web import FakeClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import SocketStream, TaskGroup

pytestmark = pytest.mark.anyio

GET = b"GET /name HTTP/1.1\r\nHost: x\r\n\r\n"


class Named(WebRole):
    """Says who answers, as soon as it may."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = anyio.Event()
        self.may = anyio.Event()
        self.may.set()

    @web.get("/name")
    async def who(self) -> Response:
        self.asked.set()
        await self.may.wait()
        return Response(self.name)

    @web.post("/hasty")
    async def hasty(self, _request: Request) -> Response:
        return Response("not read")


@dataclass
class Front:
    """One of the instances on a socket."""

    role: Named
    stopping: anyio.Event = field(default_factory=anyio.Event)
    stopped: anyio.Event = field(default_factory=anyio.Event)


class Host:
    """What a supervisor holds for a role, and its instances in this process."""

    def __init__(self, tasks: TaskGroup, held: ExitStack) -> None:
        self._tasks = tasks
        self._held = held
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.pair = socket.socketpair()
        for one in (self.listening, *self.pair):
            held.enter_context(one)

    def start(self, name: str, *, has_siblings: bool = True) -> Front:
        front = Front(Named(name))
        listening, *pair = (
            socket.socket(fileno=os.dup(one.fileno())) for one in (self.listening, *self.pair)
        )
        for one in (listening, *pair):  # if it is cancelled before it begins
            self._held.enter_context(one)
        passing = Passing(*pair)
        passing.is_wanted = has_siblings

        async def run() -> None:
            await http_server.serve(
                front.role, FakeClient(), listening, stopping=front.stopping, passing=passing
            )
            front.stopped.set()

        self._tasks.start_soon(run)
        return front

    async def connect(self) -> SocketStream:
        return await anyio.connect_tcp(*self.listening.getsockname())


@asynccontextmanager
async def hosting() -> AsyncGenerator[Host]:
    with ExitStack() as held:
        async with anyio.create_task_group() as tasks:
            host = Host(tasks, held)
            yield host
            tasks.cancel_scope.cancel()


async def answer(stream: SocketStream) -> bytes:
    with anyio.fail_after(patient(5)):
        return await stream.receive()


async def ask(stream: SocketStream, request: bytes = GET) -> bytes:
    await stream.send(request)
    return await answer(stream)


async def gone(front: Front) -> None:
    front.stopping.set()
    with anyio.fail_after(patient(5)):
        await front.stopped.wait()


async def test_a_kept_connection_goes_on_with_another_instance() -> None:
    async with hosting() as host, await_stream(host) as (stream, old):
        first = await ask(stream)
        host.start("new")

        await gone(old)
        second = await ask(stream)

    assert first.endswith(b"old")
    assert second.endswith(b"new")
    assert b"connection: close" not in second.lower()


async def test_what_was_written_while_nobody_read_is_answered() -> None:
    async with hosting() as host, await_stream(host) as (stream, old):
        await ask(stream)

        await gone(old)
        await stream.send(GET)
        host.start("new")

        assert (await answer(stream)).endswith(b"new")


async def test_a_connection_on_which_nothing_came_yet_goes_on_too() -> None:
    async with hosting() as host, await_stream(host) as (stream, old):
        await anyio.wait_all_tasks_blocked()

        await gone(old)
        host.start("new")

        assert (await ask(stream)).endswith(b"new")


async def test_what_is_under_way_is_finished_first() -> None:
    async with hosting() as host, await_stream(host) as (stream, old):
        old.role.may = anyio.Event()
        await stream.send(GET)
        await old.role.asked.wait()
        host.start("new")

        old.stopping.set()
        await anyio.wait_all_tasks_blocked()
        old.role.may.set()
        first = await answer(stream)
        await gone(old)
        second = await ask(stream)

    assert first.endswith(b"old")
    assert second.endswith(b"new")


async def test_half_a_head_is_finished_by_whoever_has_read_it() -> None:
    async with hosting() as host, await_stream(host) as (stream, old):
        await ask(stream)
        await stream.send(GET[:20])
        await anyio.wait_all_tasks_blocked()
        host.start("new")

        old.stopping.set()
        await anyio.sleep(0.2)  # past the turn of uvicorn's clock that sees the stop
        first = await ask(stream, GET[20:])
        await gone(old)
        second = await ask(stream)

    assert first.endswith(b"old")
    assert second.endswith(b"new")


async def test_a_body_that_was_not_read_is_not_taken_for_a_request() -> None:
    async with hosting() as host, await_stream(host) as (stream, old):
        head = b"POST /hasty HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
        hasty = await ask(stream, head)
        host.start("new")

        old.stopping.set()
        await anyio.sleep(0.2)
        await stream.send(b"body")
        await gone(old)
        second = await ask(stream)

    assert hasty.endswith(b"not read")
    assert second.endswith(b"new")


async def test_the_last_one_says_with_its_answer_that_it_closes() -> None:
    async with hosting() as host:
        old = host.start("old", has_siblings=False)
        async with await host.connect() as stream:
            await ask(stream)
            old.stopping.set()
            await anyio.sleep(0.2)

            last = await ask(stream)
            with pytest.raises(anyio.EndOfStream):
                await answer(stream)
        await gone(old)

    assert last.endswith(b"old")
    assert b"connection: close" in last.lower()


async def test_the_last_one_closes_a_silent_connection_without_a_reset() -> None:
    async with hosting() as host:
        old = host.start("old", has_siblings=False)
        async with await host.connect() as stream:
            await ask(stream)

            old.stopping.set()
            with pytest.raises(anyio.EndOfStream):
                await answer(stream)
            await stream.send(GET)  # too late; but it is told so by an end, not by a reset
            with pytest.raises(anyio.EndOfStream):
                await answer(stream)
        await gone(old)


@asynccontextmanager
async def await_stream(host: Host) -> AsyncGenerator[tuple[SocketStream, Front]]:
    """Start the first instance, and connect to it."""
    old = host.start("old")
    async with await host.connect() as stream:
        yield stream, old
