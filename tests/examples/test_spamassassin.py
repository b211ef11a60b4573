"""SpamAssassin as the spam check, and what it answers."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from examples.mailflow.messages import JUNK_FROM, Copy, Slip
from examples.mailflow.samples.odd import GTUBE
from examples.mailflow.samples.sample import head
from examples.mailflow.spamassassin import SpamCheck, understood
from rolekit import Retry
from rolekit.errors import GuestFailed
from rolekit.guest.crew import guests_running
from rolekit.testing import FakeContext, set_guest

if TYPE_CHECKING:
    from rolekit import Blob

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

MARKED = (
    b"SPAMD/1.1 0 EX_OK\r\nContent-length: 17\r\nSpam: True ; 1001.5 / 5.0\r\n\r\n"
    b"GTUBE,NO_RECEIVED"
)


def copy_of(raw: Blob) -> Copy:
    noon = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
    slip = Slip(mail_id="m1", number=0, sender="", rcpt="b@x", raw=raw, accepted_at=noon)
    return Copy(slip=slip)


async def test_spamassassin_marks_gtube_and_passes_a_plain_mail() -> None:
    role, ctx = SpamCheck(), FakeContext()
    plain = await ctx.save(head("Lunch") + b"\r\nat noon\r\n")
    gtube = await ctx.save(head("Test") + b"\r\n" + GTUBE.encode() + b"\r\n")

    async with guests_running(role):
        passed = await role.check(copy_of(plain), ctx)
        marked = await role.check(copy_of(gtube), ctx)

    assert passed.score < JUNK_FROM <= marked.score
    assert "GTUBE" in marked.rules
    assert "GTUBE" not in passed.rules


async def test_a_letter_to_many_is_scored_once() -> None:
    asked: list[bytes] = []

    class Fake:
        async def symbols(self, mail: bytes) -> tuple[float, list[str]]:
            asked.append(mail)
            return -0.5, ["X"]

    role, ctx = SpamCheck(), FakeContext()
    set_guest(role, "spamd", Fake())
    raw = await ctx.save(b"one letter")

    scores = [(await role.check(copy_of(raw), ctx)).score for _ in range(3)]

    assert asked == [b"one letter"]
    assert scores == [0, 0, 0]


def test_an_answer_has_a_score_and_rules() -> None:
    assert understood(MARKED) == (1001.5, ["GTUBE", "NO_RECEIVED"])


def test_no_rule_may_hit() -> None:
    answer = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 2\r\nSpam: False ; -0.1 / 5.0\r\n\r\n\r\n"

    assert understood(answer) == (-0.1, [])


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage",
        MARKED[:-1],
        MARKED + b"X",
        MARKED.replace(b"True ; 1001.5", b"True ; many"),
        MARKED.replace(b"GTUBE,", b"<b>,ab"),
        MARKED.replace(b"1.1 0 ", b"1.1 64 "),
        b"SPAMD/1.0 76 Bad header line: FOO SPAMC/1.5\r\n",
    ],
)
def test_what_is_no_verdict_is_a_fault_of_the_guest(answer: bytes) -> None:
    with pytest.raises(GuestFailed, match="a verdict was expected"):
        understood(answer)


def test_spamd_may_ask_to_be_asked_again() -> None:
    with pytest.raises(Retry):
        understood(b"SPAMD/1.1 75 EX_TEMPFAIL\r\n\r\n")
