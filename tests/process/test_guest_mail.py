"""Guests that take mail: a result for each recipient, and nothing that anybody can inject."""

from __future__ import annotations

import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from rolekit.errors import GuestFailed, Reject, Retry
from rolekit.guest import Guest, Limits, Lmtp, MailGuest, Process, Sandbox, Smtp
from rolekit.guest.crew import guests_running
from tests.process.guest_programs import (
    LIMITS,
    Leftovers,
    first_of,
    leftovers_in,
    limits_of,
    processes,
)
from tests.process.guest_servers import PORT, SOCKET, mail_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

HOSTS = pytest.mark.parametrize(
    ("host", "at"), [(Process(), PORT), (Sandbox(), SOCKET)], ids=["process", "sandbox"]
)
PROCESS = Process()
KINDS = pytest.mark.parametrize("kind", ["smtp", "lmtp"])
MAIL = b"Subject: x\r\n\r\n.\r\n..two\r\nplain\r\n"
Kind = Literal["smtp", "lmtp"]


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    with tempfile.TemporaryDirectory(prefix="rk-") as folder:  # short: sockets are in it
        leftovers = leftovers_in(Path(folder), monkeypatch)
        yield leftovers
        assert leftovers.all() == []


@asynccontextmanager
async def taking(
    left: Leftovers,
    kind: Kind,
    host: Process | Sandbox = PROCESS,
    at: str = PORT,
    limits: Limits = LIMITS,
) -> AsyncGenerator[MailGuest]:
    protocol = {"smtp": Smtp, "lmtp": Lmtp}[kind]

    class Role:
        guest = Guest(protocol(*mail_server(left.token, at, kind)), host=host, limits=limits)

    role = Role()
    async with guests_running(role):
        yield role.guest


@HOSTS
@KINDS
async def test_each_recipient_has_a_result_of_its_own(
    kind: Kind, host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    async with taking(left, kind, host, at) as guest:
        people = ["a@x", "later@x", "never@x", "b@x"]

        replies = await guest.send("me@x", people, MAIL)

    assert [reply.recipient for reply in replies] == people
    assert [reply.code for reply in replies] == [250, 451, 550, 250]
    assert [reply.is_taken for reply in replies] == [True, False, False, True]
    assert bytes.fromhex(replies[0].text) == MAIL  # with its dots
    replies[0].check()
    with pytest.raises(Retry, match="later@x: 451 later"):
        replies[1].check()
    with pytest.raises(Reject, match="never@x: 550 never\never"):
        replies[2].check()


async def test_lmtp_answers_for_each_recipient_after_the_mail(left: Leftovers) -> None:
    async with taking(left, "lmtp") as guest:
        replies = await guest.send("", ["full@x", "never@x", "a@x", "full@y"], MAIL)

    assert [reply.code for reply in replies] == [452, 550, 250, 452]
    assert replies[3].text == "full@y is full"


@KINDS
@pytest.mark.parametrize(
    ("sender", "recipients", "code"),
    [("later@x", ["a@x", "b@x"], 451), ("me@x", ["nodata@x", "b@x"], 554)],
)
async def test_a_refusal_of_the_whole_mail_is_one_for_each(
    kind: Kind, sender: str, recipients: list[str], code: int, left: Leftovers
) -> None:
    async with taking(left, kind) as guest:
        replies = await guest.send(sender, recipients, MAIL)

        assert [reply.code for reply in replies] == [code] * 2
        assert (await guest.send("me@x", ["never@x"], MAIL))[0].code == 550


@pytest.mark.parametrize(
    ("mail", "arrived"),
    [
        (b"a\n.\nb", b"a\r\n.\r\nb\r\n"),
        (b"a\n.\r\nMAIL FROM:<evil@x>\r\n", b"a\r\n.\r\nMAIL FROM:<evil@x>\r\n"),
        (b"a\r.\rb\r\n", b"a\r\n.\r\nb\r\n"),
        (b".", b".\r\n"),
        (b"\xff\0", b"\xff\0\r\n"),
    ],
)
async def test_no_mail_ends_before_its_end(
    mail: bytes, arrived: bytes, left: Leftovers
) -> None:
    async with taking(left, "smtp") as guest:
        (reply,) = await guest.send("me@x", ["a@x"], mail)

    assert bytes.fromhex(reply.text) == arrived


@pytest.mark.parametrize(
    "address",
    ["a@x\r\nDATA", "a@x\nRCPT TO:<b@x>", "a\0@x", "a@x> SIZE=1", "<a@x", "a\x7f@x", "a\x85@x"],
)
async def test_what_would_end_an_address_is_refused_and_costs_no_guest(
    address: str, left: Leftovers
) -> None:
    async with taking(left, "smtp") as guest:
        before = first_of(left.token)
        with pytest.raises(Reject, match="is no address of mail"):
            await guest.send(address, ["a@x"], MAIL)
        with pytest.raises(Reject, match="is no address of mail"):
            await guest.send("me@x", ["a@x", address], MAIL)
        with pytest.raises(Reject, match="takes no addresses beyond ASCII"):
            await guest.send("mé@x", ["a@x"], MAIL)
        with pytest.raises(Reject, match="without a recipient"):
            await guest.send("me@x", [], MAIL)

        assert (await guest.send("me@x", ["a@x"], MAIL))[0].is_taken
        assert first_of(left.token) == before


FAULTS = {
    "exit": "(ended instead of answering|connection).* exit status was 3",
    "kill": "ended instead of answering",
    "drop": "ended instead of answering",
    "hang": "took longer than its time_s, 2.5 s; it was killed",
    "garbage": "it said 'what\\?', which is no reply of SMTP",
    "odd": "it said '354 go on'; 200 or an error was expected",
    "flood": "it wrote more than the 4 MB that output_mb allows",
    "partial": r"it ended in the middle of an answer \(2 bytes\)",
}


@HOSTS
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_server_of_mail_is_replaced_after_a_fault(
    fault: str, host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    async with taking(left, "lmtp", host, at, limits_of(fault)) as guest:
        before = set(processes(left.token))
        await guest.send("me@x", ["write@x"], MAIL)

        with pytest.raises(GuestFailed, match=FAULTS[fault]):
            await guest.send("me@x", ["a@x", f"{fault}@x"], MAIL)

        (reply,) = await guest.send("look@x", ["never@x"], MAIL)
        assert reply.code == 550
        assert not before & set(processes(left.token))


@KINDS
async def test_a_server_of_others_takes_mail(kind: Kind, left: Leftovers) -> None:
    program = (
        "import asyncio, sys\n"
        "from aiosmtpd.handlers import Debugging\n"
        "from aiosmtpd.lmtp import LMTP\n"
        "from aiosmtpd.smtp import SMTP\n"
        "async def main():\n"
        "    kind = {'smtp': SMTP, 'lmtp': LMTP}[sys.argv[1]]\n"
        "    made = lambda: kind(Debugging(sys.stdout), enable_SMTPUTF8=True)\n"
        "    loop = asyncio.get_running_loop()\n"
        "    await loop.create_server(made, '127.0.0.1', int(sys.argv[2]))\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    protocol = {"smtp": Smtp, "lmtp": Lmtp}[kind]

    class Role:
        guest = Guest(
            protocol(sys.executable, "-c", program, kind, PORT, left.token), host=Process()
        )

    role = Role()
    async with guests_running(role):
        for _ in range(3):
            (reply,) = await role.guest.send("mé@example.org", ["a@x.org"], MAIL + b"\xff")

            assert reply.is_taken
