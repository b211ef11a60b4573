"""The load of the demo."""

from __future__ import annotations

import httpx
import pytest

from examples.mailflow.load import (
    LARGE_BYTES,
    Mail,
    NotAccepted,
    Sender,
    Target,
    Way,
    make_load,
)
from examples.mailflow.samples import all_samples
from examples.mailflow.smtp import submission_key
from tests.examples.smtp_talk import ScriptedRelay

SAMPLES = all_samples()
LOAD = make_load(SAMPLES, copies=2000, people=300, run="r1")


def test_there_are_about_as_many_copies_as_asked_for_and_hundreds_of_recipients() -> None:
    assert 2000 <= sum(len(mail.recipients) for mail in LOAD) <= 2010
    assert len({rcpt for mail in LOAD for rcpt in mail.recipients}) >= 300


def test_each_sample_is_sent() -> None:
    assert len(LOAD) >= len(SAMPLES)
    assert all(any(mail.raw.endswith(sample.raw) for mail in LOAD) for sample in SAMPLES)


def test_no_two_mails_have_the_same_bytes_or_key_also_in_another_run() -> None:
    other = make_load(SAMPLES, copies=2000, people=300, run="r2")

    assert len({mail.raw for mail in (*LOAD, *other)}) == len(LOAD) + len(other)
    assert len({mail.key for mail in (*LOAD, *other)}) == len(LOAD) + len(other)


def test_no_mail_has_a_recipient_twice() -> None:
    assert all(len(set(mail.recipients)) == len(mail.recipients) for mail in LOAD)


def test_all_ways_are_taken_and_smtp_only_where_a_repeat_is_known() -> None:
    by_smtp = [mail for mail in LOAD if mail.way == "smtp"]

    assert {mail.way for mail in LOAD} == {"http", "raw", "smtp"}
    assert all(submission_key(mail.sender, list(mail.recipients), mail.raw) for mail in by_smtp)


def test_large_mails_go_to_few() -> None:
    assert all(len(mail.recipients) <= 3 for mail in LOAD if len(mail.raw) > LARGE_BYTES)


def test_unknown_addresses_and_viruses_are_expected_to_bounce() -> None:
    expected = [mail.expected("m") for mail in LOAD]
    bouncing = [
        rcpt
        for mail in expected
        for rcpt, owner in zip(mail.recipients, mail.owners, strict=True)
        if owner is None
    ]

    assert {"nobody@mail.example", "stranger@far.example"} <= set(bouncing)
    assert all(set(mail.expected("m").owners) == {None} for mail in LOAD if mail.bounces)


def test_a_small_load_still_has_each_sample_once() -> None:
    load = make_load(SAMPLES, copies=1, people=300, run="r1")

    assert len(load) == len(SAMPLES)
    assert {len(mail.recipients) for mail in load} == {1}


def mail(way: Way) -> Mail:
    return Mail(
        key="k1",
        raw=b"Message-ID: <1@x>\r\n\r\nhi\r\n",
        sender="ada@mail.example",
        recipients=("bob@mail.example",),
        bounces=False,
        way=way,
    )


NOWHERE = Target(front="http://front", smtp_host="127.0.0.1", smtp_port=1)


@pytest.mark.anyio
async def test_a_request_that_got_no_answer_is_sent_again_under_its_key() -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadError("killed")
        return httpx.Response(503 if len(keys) == 2 else 202, json={"id": "m1"})

    async with Sender(NOWHERE, transport=httpx.MockTransport(answer)) as sender:
        mail_id = await sender.send(mail("raw"))

    assert mail_id == "m1"
    assert keys == ["k1/mail/raw"] * 3


@pytest.mark.anyio
async def test_a_request_that_was_refused_is_not_sent_again() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(422, text="no")

    async with Sender(NOWHERE, transport=httpx.MockTransport(answer)) as sender:
        with pytest.raises(NotAccepted, match="422 no"):
            await sender.send(mail("raw"))

    assert asked == ["/mail/raw"]


@pytest.mark.anyio
async def test_smtp_gives_the_receipt_and_is_tried_until_patience_ends() -> None:
    taking = ScriptedRelay(says={".": "250 2.0.0 queued as m7"})
    putting_off = ScriptedRelay(says={".": "451 4.3.0 later"})
    async with taking.running(), Sender(at(taking)) as sender:
        receipt = await sender.send(mail("smtp"))
    async with putting_off.running(), Sender(at(putting_off), patience_s=0.2) as sender:
        with pytest.raises(NotAccepted, match="451"):
            await sender.send(mail("smtp"))

    assert receipt == "m7"
    assert len(putting_off.messages) == sender.attempts > 1


def at(relay: ScriptedRelay) -> Target:
    host, _, port = relay.address.partition(":")
    return Target(front="http://front", smtp_host=host, smtp_port=int(port))
