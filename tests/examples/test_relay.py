"""Handing copies to another server."""

from __future__ import annotations

import datetime as dt

import pytest

from examples.mailflow.messages import Slip
from examples.mailflow.relay import Refused, Relay, TemporaryFailure, outgoing
from rolekit import Blob
from tests.examples.smtp_talk import ScriptedRelay

pytestmark = pytest.mark.anyio

HELLO = b"Subject: hello\r\n\r\n.dot\r\nworld\r\n"
TOP = b"X-Mailflow-Delivery: <step1@mail.example>\r\n"


def slip(rcpt: str = "bob@far.example", sender: str = "ada@mail.example") -> Slip:
    return Slip(
        mail_id="m1",
        number=0,
        sender=sender,
        rcpt=rcpt,
        raw=Blob(id="b", size_bytes=1),
        accepted_at=dt.datetime(2026, 3, 2, tzinfo=dt.UTC),
    )


async def send(relay: ScriptedRelay, raw: bytes = HELLO, to: Slip | None = None) -> None:
    server = Relay(relay.address, starttls=False, name="mail.example")
    await server.send(to or slip(), raw, delivery_id="step1")


async def test_a_copy_goes_out_byte_for_byte_under_the_id_of_its_delivery() -> None:
    async with ScriptedRelay().running() as relay:
        await send(relay)
        await send(relay)

    assert relay.messages == [TOP + HELLO, TOP + HELLO]


@pytest.mark.parametrize("word", ["", "MAIL", "RCPT", "DATA", "."])
async def test_4xx_is_for_later_at_whatever_step(word: str) -> None:
    async with ScriptedRelay(says={word: "451 4.7.1 come back"}).running() as relay:
        with pytest.raises(TemporaryFailure, match=r"451 4.7.1 come back"):
            await send(relay)


@pytest.mark.parametrize("word", ["", "MAIL", "RCPT", "DATA", "."])
async def test_5xx_is_for_good_at_whatever_step(word: str) -> None:
    async with ScriptedRelay(says={word: "550 5.1.1 never heard of"}).running() as relay:
        with pytest.raises(Refused, match=r"550 5.1.1 never heard of"):
            await send(relay)


async def test_a_copy_that_was_taken_stays_taken_whatever_the_goodbye() -> None:
    async with ScriptedRelay(says={"QUIT": "500 what?"}).running() as relay:
        await send(relay)

    assert len(relay.messages) == 1


async def test_nobody_there_is_for_later() -> None:
    async with ScriptedRelay().running() as relay:
        pass

    with pytest.raises(TemporaryFailure, match="no answer"):
        await send(relay)


async def test_a_relay_without_tls_is_not_spoken_to_when_tls_is_wanted() -> None:
    async with ScriptedRelay().running() as relay:
        with pytest.raises((Refused, TemporaryFailure)):
            await Relay(relay.address, starttls=True, name="mail.example").send(
                slip(), HELLO, delivery_id="step1"
            )

    assert relay.messages == []


async def test_8bit_mail_is_announced_and_refused_where_nobody_takes_it() -> None:
    raw = "Subject: Grüße\r\n\r\n".encode()
    async with ScriptedRelay().running() as relay:
        await send(relay, raw)
    async with ScriptedRelay(extensions=()).running() as old:
        with pytest.raises(Refused, match=r"554 5.6.1"):
            await send(old, raw)

    assert any("BODY=8BITMIME" in command for command in relay.heard)
    assert old.messages == []


async def test_an_address_beyond_ascii_is_announced_and_refused_where_nobody_takes_it() -> None:
    to = slip("ζωή@far.example")
    async with ScriptedRelay().running() as relay:
        await send(relay, to=to)
    async with ScriptedRelay(extensions=()).running() as old:
        with pytest.raises(Refused, match=r"550 5.6.7"):
            await send(old, to=to)

    assert any("SMTPUTF8" in command for command in relay.heard)
    assert "RCPT TO:<ζωή@far.example>" in relay.heard


@pytest.mark.parametrize("rcpt", ["b@c>\r\nRCPT TO:<x@y", "b@c\nDATA", "b c@d", "b@c> SIZE=1"])
async def test_an_address_that_carries_a_command_is_never_sent(rcpt: str) -> None:
    async with ScriptedRelay().running() as relay:
        with pytest.raises(Refused, match=r"553 5.1.3"):
            await send(relay, to=slip(rcpt))

    assert relay.heard == []


def test_lone_line_ends_become_whole_ones_on_the_way_out() -> None:
    sent = outgoing(b"a\nb\rc\r\n\n.\n\r\nd\r\r\n", delivery_id="step1", name="mail.example")

    assert sent == TOP + b"a\r\nb\r\nc\r\n\r\n.\r\n\r\nd\r\n\r\n"
