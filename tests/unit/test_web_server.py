"""The same front behind a real server, on a socket that was made elsewhere."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio
import pytest

from rolekit import web
from rolekit.roles import http_server
from rolekit.roles.http_limits import GuardedProtocol, Limits
from rolekit.roles.web import WebRole
from tests.patience import patient
from tests.unit.fakes_web import FakeClient
from tests.unit.web_front import Front, Progress, Report, Served, serving

if TYPE_CHECKING:
    from anyio.abc import ByteStream

pytestmark = pytest.mark.anyio

MAIL = {"sender": "a@x", "recipients": ["b@x"]}


async def connect(served: Served) -> ByteStream:
    return await anyio.connect_tcp("127.0.0.1", served.port)


async def read_all(stream: ByteStream) -> bytes:
    with anyio.fail_after(patient(5)):
        return b"".join([part async for part in stream])


async def test_an_inherited_socket_is_served_and_the_connection_kept() -> None:
    async with serving(Front()) as served:
        answers = [await served.http.post("/mail", json=MAIL) for _ in range(2)]
        streams = [answer.extensions["network_stream"] for answer in answers]
        ends = {stream.get_extra_info("client_addr") for stream in streams}

    assert [answer.status_code for answer in answers] == [202, 202]
    assert len(ends) == 1
    assert "server" not in answers[0].headers


async def test_a_connection_that_stays_idle_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "KEEP_ALIVE_S", 0)
    async with serving(Front()) as served, await connect(served) as stream:
        await stream.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await read_all(stream)

    assert answer.endswith(b"ok")


async def test_one_connection_too_many_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS", 1)
    async with serving(Front()) as served:
        first = await served.http.get("/healthz")
        async with await connect(served) as other:
            await other.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            second = await read_all(other)

    assert first.status_code == 200
    assert second.startswith(b"HTTP/1.1 503 ")


async def test_serve_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with serving(Front()) as served:
        await served.http.get("/healthz")
        during = signal.getsignal(signal.SIGTERM)

    assert during is before


async def test_a_body_announced_too_large_is_refused_before_it_is_sent() -> None:
    async with serving(Front()) as served, await connect(served) as stream:
        await stream.send(
            b"POST /mail HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        answer = await read_all(stream)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


async def test_a_sender_that_writes_on_still_reads_its_refusal() -> None:
    async with serving(Front()) as served:
        answer = await served.http.put("/raw", content=b"x" * (8 << 20))

    assert answer.status_code == 413


async def test_a_body_that_stops_coming_is_408() -> None:
    limits = Limits(grace_s=0.1, linger_s=0.1)
    async with serving(Front(), limits=limits) as served, await connect(served) as stream:
        await stream.send(b"POST /mail HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n{")
        answer = await read_all(stream)

    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_body_slower_than_the_rate_is_408_although_it_never_stops() -> None:
    limits = Limits(grace_s=0.2, rate=1000, linger_s=0.1)
    async with serving(Front(), limits=limits) as served, await connect(served) as stream:
        await stream.send(b"PUT /raw HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        answer = b""
        with anyio.fail_after(patient(5)):
            while not answer:
                await stream.send(b"x")
                with anyio.move_on_after(0.02):
                    answer = await stream.receive()

    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"x" * 20_000 + b"\r\n",
        b"".join(b"X-%d: y\r\n" % number for number in range(101)),
        b"X-Open: " + b"x" * 40_000,
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    ],
)
async def test_a_head_out_of_bounds_is_refused(head: bytes) -> None:
    async with serving(Front()) as served, await connect(served) as stream:
        await stream.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
        answer = await read_all(stream)

    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_head_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedProtocol, "head_s", 0.1)
    async with serving(Front()) as served, await connect(served) as stream:
        await stream.send(b"GET /healthz HTTP/1.1\r\nHost:")
        answer = await read_all(stream)

    assert answer == b""


async def test_the_end_waits_for_requests_and_then_frees_the_port() -> None:
    begun, go = anyio.Event(), anyio.Event()

    class Slow(WebRole):
        @web.get("/slow")
        async def slow(self) -> Progress:
            begun.set()
            await go.wait()
            return Progress(done=1)

    answers: list[object] = []
    async with serving(Slow()) as served:

        async def call() -> None:
            answers.append((await served.http.get("/slow")).json())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await begun.wait()
            served.stopping.set()
            go.set()
        await served.stopped.wait()
        with pytest.raises(OSError, match="All connection attempts failed"):
            await connect(served)

    assert answers == [{"done": 1}]


async def test_a_connection_taken_just_before_the_end_is_still_answered() -> None:
    async with serving(Front()) as served:
        await served.http.get("/healthz")
        async with await connect(served) as stream:
            await anyio.wait_all_tasks_blocked()
            served.stopping.set()
            await anyio.sleep(0.2)  # past the turn of uvicorn's clock that sees the stop
            await stream.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await read_all(stream)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert http_server.LINGER_S > 0.2


async def test_event_streams_end_with_the_server_and_go_on_elsewhere() -> None:
    client = FakeClient()
    client.replies["m1"] = [Progress(done=1)]
    lines: list[str] = []
    async with serving(Front(), client) as served:
        async with served.http.stream("GET", "/mail/m1/live") as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
                if line.startswith("data"):
                    served.stopping.set()
        await served.stopped.wait()
    client.replies["m1"].append(Report(lines=[]))
    async with serving(Front(), client) as served:
        rest = await served.http.get("/mail/m1/live", headers={"Last-Event-ID": "1"})

    assert [line for line in lines if line] == [
        "event: Progress",
        "id: 1",
        'data: {"done":1}',
        "retry: 1000",
    ]
    assert rest.text == 'event: Report\nid: 2\ndata: {"lines":[]}\n\n'


async def test_an_iterator_is_closed_when_its_reader_goes() -> None:
    closed = anyio.Event()

    class Live(WebRole):
        @web.get("/live")
        async def live(self) -> AsyncIterator[Progress]:
            try:
                yield Progress(done=1)
                await anyio.sleep_forever()
            finally:
                closed.set()

    async with serving(Live()) as served:
        async with served.http.stream("GET", "/live") as answer:
            await anext(answer.aiter_lines())
        with anyio.fail_after(patient(2)):
            await closed.wait()

    assert closed.is_set()


async def test_a_server_that_is_cancelled_leaves_nothing_behind() -> None:
    begun, ended = anyio.Event(), anyio.Event()

    class Hangs(WebRole):
        @web.get("/hang")
        async def hang(self) -> None:
            begun.set()
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(again, listening, anyio.Event(), Hangs())
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
            await begun.wait()
            tasks.cancel_scope.cancel()
    with anyio.fail_after(patient(2)):
        await ended.wait()

    with pytest.raises(OSError, match="All connection attempts failed"):
        await anyio.connect_tcp("127.0.0.1", port)


async def test_two_servers_on_one_socket_leave_it_to_each_other() -> None:
    async with serving(Front()) as served:
        await served.http.get("/healthz")
        shared = socket.socket(fileno=os.dup(served.listening.fileno()))
        served.stopping.set()
        await served.stopped.wait()
        stopping = anyio.Event()
        answer = b""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(again, shared, stopping)
            async with await connect(served) as stream:
                await stream.send(
                    b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                )
                answer = await read_all(stream)
            stopping.set()

    assert answer.endswith(b"ok")


async def again(
    listening: socket.socket, stopping: anyio.Event, role: WebRole | None = None
) -> None:
    await http_server.serve(role or Front(), FakeClient(), listening, stopping=stopping)
