"""Guests of a Container that listen, or have folders: reached with no network, and replaced."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import AppError, ConfigError, GuestFailed, Reject
from rolekit.guest import (
    Files,
    Guest,
    Http,
    HttpGuest,
    Lmtp,
    Serves,
    Smtp,
)
from rolekit.guest.crew import guests_running
from rolekit.guest.reaching import reached
from tests.process.guest_programs import (
    DEBIAN,
    LIMITS,
    Leftovers,
    first_of,
    processes,
)
from tests.process.guest_servers import COUNT, PORT, SOCKET, http_server, mail_server
from tests.process.test_guest_files import WORKER
from tests.process.test_guest_serves import Counter

if TYPE_CHECKING:
    from tests.engine import PrivateEngine

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

MAIL = b"Subject: x\r\n\r\n.\r\nplain\r\n"
FAULTS = {
    "exit": "Its exit status was 3",
    "garbage": "that is no HTTP|not HTTP|HTTP",
    "flood": "wrote more than the 4 MB that output_mb allows",
}


async def test_a_server_is_asked_at_its_port_and_at_its_socket(left: Leftovers) -> None:
    class Role:
        port = Guest(Http(*http_server(left.token, PORT)), host=DEBIAN, limits=LIMITS)
        path = Guest(Http(*http_server(left.token, SOCKET)), host=DEBIAN, limits=LIMITS)

    role = Role()
    async with guests_running(role):
        await _answers(role.port)
        await _answers(role.path)


async def _answers(guest: HttpGuest) -> None:
    """See that a server gets a whole request, and gives a whole answer."""
    for _ in range(2):
        answer = await guest.request(
            "POST", "/echo?a=b", headers={"X-Mine": "1"}, body=b"\0\n\xff"
        )
        assert answer.status == 200
        assert answer.body.startswith(b"POST /echo?a=b HTTP/1.1\r\n")
        assert answer.body.endswith(b"\r\n\0\n\xff")


async def test_a_server_that_failed_is_replaced_by_a_fresh_one(left: Leftovers) -> None:
    class Role:
        guest = Guest(Http(*http_server(left.token, PORT)), host=DEBIAN, limits=LIMITS)

    role = Role()
    async with guests_running(role):
        for fault, said in FAULTS.items():
            before = first_of(left.token)
            await role.guest.request("GET", "/write")
            assert (await role.guest.request("GET", "/look")).body == b"there"

            with pytest.raises(GuestFailed, match=said):
                await role.guest.request("GET", f"/{fault}")

            assert (await role.guest.request("GET", "/look")).body == b"nothing"
            assert not before & set(processes(left.token))


@pytest.mark.parametrize("kind", ["smtp", "lmtp"])
async def test_mail_is_taken_with_a_reply_for_each_recipient(
    kind: str, left: Leftovers
) -> None:
    protocol = {"smtp": Smtp, "lmtp": Lmtp}[kind]

    class Role:
        guest = Guest(protocol(*mail_server(left.token, PORT, kind)), host=DEBIAN)

    role = Role()
    async with guests_running(role):
        replies = await role.guest.send("me@x", ["a@x", "later@x", "never@x"], MAIL)

    assert [reply.code for reply in replies] == [250, 451, 550]
    assert bytes.fromhex(replies[0].text) == MAIL


async def test_a_protocol_of_ones_own_has_a_connection_for_each_call(left: Leftovers) -> None:
    class Role:
        guest = Guest(
            Serves(Counter, "perl", "-e", COUNT, PORT, left.token, in_flight=4),
            host=DEBIAN,
            limits=LIMITS,
        )

    role = Role()
    async with guests_running(role):
        asked = (role.guest.tell(b"count", b"word " * many) for many in range(10))
        assert await asyncio.gather(*asked) == list(range(10))
        with pytest.raises(Reject):
            await role.guest.tell(b"count", b"\xff")


async def test_files_are_given_and_left_and_no_link_leads_out(left: Leftovers) -> None:
    class Role:
        guest = Guest(
            Files("perl", "-e", WORKER, "{in}", "{out}", left.token),
            host=DEBIAN,
            limits=LIMITS,
        )

    role = Role()
    async with guests_running(role):
        done = await role.guest.drop(b"hello", name="a.txt")
        assert (done.name, done.body) == ("a.txt.done", b"HELLO")
        await role.guest.drop(b"write")

        for fault, said in {
            "kill": "ended instead of answering",
            "link": "its folders: Too many levels of symbolic links",
            "pipe": "is no file",
        }.items():
            with pytest.raises(GuestFailed, match=said):
                await role.guest.drop(fault.encode())
            assert (await role.guest.drop(b"look")).body == b"nothing"


async def test_a_server_that_ends_at_once_keeps_the_instance_from_starting(
    left: Leftovers,
) -> None:
    class Role:
        guest = Guest(Http("sh", "-c", "echo no license >&2; exit 3", PORT), host=DEBIAN)

    with pytest.raises(AppError, match=r"Role.guest .*ended before it was ready.*no license"):
        async with guests_running(Role()):
            pass


async def test_a_process_that_is_no_container_s_is_not_joined() -> None:
    with pytest.raises(ConfigError, match="cannot be reached: its process is not seen"):
        async with reached(os.getpid(), "0" * 64):
            pass


async def test_what_reaches_in_has_the_rights_of_the_guest_and_ends_with_it(
    engine: PrivateEngine, left: Leftovers
) -> None:
    class Role:
        guest = Guest(Http(*http_server(left.token, PORT)), host=DEBIAN, limits=LIMITS)

    async with guests_running(Role()):
        told = ["ps", "--quiet", "--no-trunc"]
        container = await asyncio.to_thread(engine.docker, *told)
        (pid,) = reaching(container)
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )

        assert status["Uid"].split() == ["65534"] * 4
        assert status["Groups"].split() == []
        assert {status[name] for name in ("CapEff", "CapPrm", "CapInh")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
    assert reaching(container) == []


def reaching(container: str) -> list[int]:
    """Return what reaches into a container."""
    return list(set(processes("reach.py")) & set(processes(container)))
