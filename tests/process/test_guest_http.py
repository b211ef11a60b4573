"""Guests that are HTTP servers: reached wherever they live, and replaced when they fail."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from rolekit.errors import AppError, GuestFailed, Reject
from rolekit.guest import Guest, Http, HttpGuest, Limits, Process, Sandbox, pool
from rolekit.guest.crew import guests_running
from rolekit.guest.current import current_message, in_work
from tests.process.guest_programs import (
    LIMITS,
    Leftovers,
    first_of,
    leftovers_in,
    limits_of,
    processes,
)
from tests.process.guest_servers import PORT, SOCKET, http_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WAYS = pytest.mark.parametrize(
    ("host", "at"),
    [(Process(), PORT), (Process(), SOCKET), (Sandbox(), PORT), (Sandbox(), SOCKET)],
    ids=["process-port", "process-socket", "sandbox-port", "sandbox-socket"],
)
HOSTS = pytest.mark.parametrize(
    ("host", "at"), [(Process(), PORT), (Sandbox(), PORT)], ids=["process", "sandbox"]
)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    with tempfile.TemporaryDirectory(prefix="rk-") as folder:  # short: sockets are in it
        leftovers = leftovers_in(Path(folder), monkeypatch)
        yield leftovers
        assert leftovers.all() == []


@asynccontextmanager
async def serving(
    left: Leftovers,
    host: Process | Sandbox,
    at: str,
    limits: Limits = LIMITS,
    *,
    in_flight: int = 1,
    pool: int = 1,
) -> AsyncGenerator[HttpGuest]:
    class Role:
        guest = Guest(
            Http(*http_server(left.token, at), in_flight=in_flight),
            host=host,
            limits=limits,
            pool=pool,
        )

    role = Role()
    async with guests_running(role):
        yield role.guest


@WAYS
async def test_a_server_is_asked_and_answers_wherever_it_lives(
    host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    async with serving(left, host, at) as guest:
        answers = [
            await guest.request("POST", "/echo?a=b", headers={"X-Mine": "é"}, body=b"\0\n\xff")
            for _ in range(3)
        ]

    for answer in answers:
        assert answer.status == 200
        assert answer.body.startswith(b"POST /echo?a=b HTTP/1.1\r\n")
        assert b"X-Mine: \xe9\r\n" in answer.body
        assert answer.body.endswith(b"\0\n\xff")
        assert answer.headers == (("content-length", str(len(answer.body))), ("x-own", "a"))


FAULTS = {
    "exit": "(ended the connection|connection to it broke).* exit status was 3",
    "kill": "ended the connection|connection to it broke",
    "drop": "it ended the connection instead of answering",
    "hang": "took longer than its time_s, 2.5 s; it was killed",
    "half": "took longer than its time_s, 2.5 s; it was killed",
    "garbage": "its answer is no HTTP",
    "partial": "its answer is no HTTP: peer closed connection without sending complete",
    "flood": "it wrote more than the 4 MB that output_mb allows",
    "heads": "its answer is no HTTP",
    "bomb": "took longer than its time_s|more processes than its pids|ended the connection",
    "hog": "used more than its memory_mb|ended the connection",
    "fill": "ended the connection",
}


@HOSTS
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_server_is_replaced_after_a_fault(
    fault: str, host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    async with serving(left, host, at, limits_of(fault)) as guest:
        before = set(processes(left.token))

        with pytest.raises(GuestFailed, match=FAULTS[fault]):
            await guest.request("GET", f"/{fault}")

        assert (await guest.request("GET", "/fine")).body == b"fine"
        assert not before & set(processes(left.token))


@HOSTS
async def test_the_answer_of_a_server_that_dies_after_it_stands(
    host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    async with serving(left, host, at) as guest:
        with structlog.testing.capture_logs() as logs:
            assert (await guest.request("GET", "/last")).body == b"fine"
            # Else the next could reach it before its death is known, and fail.
            await left.soon(lambda: any(log["event"] == "replacing a guest" for log in logs))

        assert (await guest.request("GET", "/fine")).body == b"fine"


@HOSTS
async def test_a_server_out_of_step_is_replaced_and_its_answer_stands(
    host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    async with serving(left, host, at) as guest:
        assert (await guest.request("GET", "/noise")).body == b"fine"

        answers = [(await guest.request("GET", "/fine")).body for _ in range(5)]

        assert answers == [b"fine"] * 5


@HOSTS
async def test_nothing_that_a_server_wrote_survives_it(
    host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    async with serving(left, host, at) as guest:
        await guest.request("GET", "/write")
        assert (await guest.request("GET", "/look")).body == b"there"
        with pytest.raises(GuestFailed):
            await guest.request("GET", "/kill")

        assert (await guest.request("GET", "/look")).body == b"nothing"


@pytest.mark.parametrize("kind", ["rude", "close", "old", "parts", "fine"])
async def test_a_server_may_end_its_connections_as_it_likes(kind: str, left: Leftovers) -> None:
    async with serving(left, Process(), PORT) as guest:
        first = first_of(left.token)

        answers = [await guest.request("GET", f"/{kind}") for _ in range(20)]

        assert [answer.body for answer in answers] == [b"fine"] * 20
        assert first_of(left.token) == first


async def test_an_answer_before_the_body_was_read_is_an_answer(left: Leftovers) -> None:
    async with serving(left, Process(), PORT) as guest:
        answer = await guest.request("POST", "/early", body=b"x" * 8_000_000)

        assert (answer.status, answer.body) == (413, b"big")
        assert (await guest.request("GET", "/fine")).body == b"fine"


@HOSTS
async def test_a_guest_takes_as_many_requests_at_once_as_it_says(
    host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    async with serving(left, host, at, Limits(time_s=30), in_flight=8) as guest:
        many = {"X-Many": "8"}  # each is answered when all eight are there

        answers = await asyncio.gather(
            *(guest.request("GET", "/meet", headers=many) for _ in range(16))
        )

        assert [answer.body for answer in answers] == [b"fine"] * 16


async def test_a_fault_of_one_request_lets_the_others_end_before_the_guest_does(
    left: Leftovers,
) -> None:
    async with serving(left, Process(), PORT, Limits(time_s=30), in_flight=3) as guest:
        first = first_of(left.token)
        many = {"X-Many": "2"}
        one = asyncio.ensure_future(guest.request("GET", "/meet", headers=many))
        await left.soon(lambda: any(left.folder.glob("rolekit-guest-*/*/met*")))
        with pytest.raises(GuestFailed, match="no HTTP"):
            await guest.request("GET", "/garbage")
        waiting = asyncio.ensure_future(guest.request("GET", "/fine"))

        for met in left.folder.glob("rolekit-guest-*/1"):
            (met / "met-ours").touch()  # now there are two

        assert (await one).body == b"fine"
        assert (await waiting).body == b"fine"
        assert not first & set(processes(left.token))


async def test_a_request_that_cannot_be_made_costs_no_guest(left: Leftovers) -> None:
    async with serving(left, Process(), PORT) as guest:
        before = first_of(left.token)

        for method, path, headers in (
            ("GET", "/a b", {}),
            ("GET", "/a\r\nX: y", {}),
            ("GET", "no-path", {}),
            ("GET", "/é", {}),
            ("GE T", "/", {}),
            ("GET", "/", {"X": "a\r\nY: b"}),
            ("GET", "/", {"X Y": "a"}),
            ("GET", "/", {"X": "\N{SNOWMAN}"}),
        ):
            with pytest.raises(Reject):
                await guest.request(method, path, headers=headers)

        assert first_of(left.token) == before


async def test_a_server_is_told_the_message_and_its_trace_and_so_is_the_log(
    left: Leftovers,
) -> None:
    async with serving(left, Process(), PORT) as guest:
        with structlog.testing.capture_logs() as logs:
            token = current_message.set(in_work("m-1", TRACE))
            hop = {"Connection": "X-Gone", "X-Gone": "1", "TE": "trailers", "Host": "a.example"}
            asked = (await guest.request("GET", "/echo", headers=hop)).body
            await guest.request("GET", "/say")
            current_message.reset(token)
            await left.soon(lambda: len(logs) >= 2)

    assert asked == (
        b"GET /echo HTTP/1.1\r\nHost: a.example\r\nRolekit-Message-Id: m-1\r\n"
        b"traceparent: " + TRACE.encode() + b"\r\n"
    )
    assert sorted((line["said"], line["message"], line["trace"]) for line in logs) == [
        ("one", "m-1", "0af7651916cd43dd8448eb211c80319c"),
        ("two", "m-1", "0af7651916cd43dd8448eb211c80319c"),
    ]


async def test_an_idle_server_that_is_not_well_is_replaced(
    left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CHECK_S", 0.05)
    async with serving(left, Process(), PORT) as guest:
        first = first_of(left.token)
        await guest.request("GET", "/ill")

        await left.soon(lambda: not first & set(processes(left.token)))

        assert (await guest.request("GET", "/fine")).body == b"fine"


@HOSTS
async def test_a_server_killed_while_idle_is_replaced_before_anybody_asks(
    host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    async with serving(left, host, at, pool=2) as guest:
        before = set(processes(left.token))
        await guest.request("GET", "/last")
        await left.soon(lambda: len(set(processes(left.token)) - before) >= len(before) // 2)

        answers = await asyncio.gather(*(guest.request("GET", "/fine") for _ in range(4)))

        assert [answer.body for answer in answers] == [b"fine"] * 4


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("sleep 1000", r"not ready within start_s, 0.5 s: .*takes no connection"),
        (
            "print STDERR 'no licence'; exit 3",
            "it ended before it was ready. .*was 3.*no licen",
        ),
    ],
)
@HOSTS
async def test_a_port_that_is_never_healthy_keeps_the_instance_from_starting(
    program: str, said: str, host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    class Role:
        guest = Guest(
            Http("perl", "-e", program, at, left.token), host=host, limits=Limits(start_s=0.5)
        )

    with pytest.raises(AppError, match=rf"(?s)Role.guest \(.perl .* in .*{said}"):
        async with guests_running(Role()):
            pass


async def test_a_server_that_answers_otherwise_than_when_it_is_well_is_told_of(
    left: Leftovers,
) -> None:
    class Role:
        guest = Guest(
            Http(*http_server(left.token, PORT), health="/fine", status=204),
            host=Process(),
            limits=Limits(start_s=1.5),
        )

    with pytest.raises(AppError, match=r"GET /fine at 127.* was answered 200, not 204"):
        async with guests_running(Role()):
            pass


@pytest.mark.parametrize("host", [Process(), Sandbox()], ids=["process", "sandbox"])
async def test_a_port_is_told_in_the_environment_too(
    host: Process | Sandbox, left: Leftovers
) -> None:
    body = http_server(left.token, PORT)[2].replace("my $at = shift", "my $at = $ENV{PORT}")

    class Role:
        guest = Guest(Http("perl", "-e", body, left.token), host=host)

    role = Role()
    async with guests_running(role):
        assert (await role.guest.request("GET", "/fine")).body == b"fine"


async def test_guests_with_one_network_have_ports_of_their_own(left: Leftovers) -> None:
    async with serving(left, Process(), PORT, pool=6) as guest:
        answers = await asyncio.gather(*(guest.request("GET", "/fine") for _ in range(12)))

        assert [answer.body for answer in answers] == [b"fine"] * 12


async def test_servers_in_sandboxes_may_all_have_the_port_that_they_insist_on(
    left: Leftovers,
) -> None:
    body = http_server(left.token, PORT)[2].replace("my $at = shift", "my $at = 80 + 8000")

    class Role:
        guest = Guest(Http("perl", "-e", body, left.token, port=8080), host=Sandbox(), pool=3)

    role = Role()
    async with guests_running(role):
        answers = await asyncio.gather(*(role.guest.request("GET", "/fine") for _ in range(6)))

        assert [answer.body for answer in answers] == [b"fine"] * 6


async def test_a_link_in_place_of_a_socket_leads_nowhere_outside(left: Leftovers) -> None:
    """Whatever a sandbox puts there, the instance connects to nothing of the machine."""
    outside = left.folder / "outside.sock"
    server = await asyncio.start_unix_server(lambda _, out: out.close(), outside)
    program = "symlink $ARGV[1], $ARGV[0] or die; sleep 1000"

    class Role:
        guest = Guest(
            Http("perl", "-e", program, SOCKET, str(outside), left.token),
            host=Sandbox(),
            limits=Limits(start_s=1),
        )

    async with server:
        with pytest.raises(AppError, match=r"guest.sock: it takes no connection: No such file"):
            async with guests_running(Role()):
                pass
    outside.unlink(missing_ok=True)


async def test_a_path_too_long_for_a_socket_is_refused(
    left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = left.folder / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    with pytest.raises(AppError, match=r"at most 107 bytes. Set TMPDIR to a"):
        async with serving(left, Process(), SOCKET):
            pass
