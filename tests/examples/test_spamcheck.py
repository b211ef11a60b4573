"""The old filter in Perl: by itself, and as a guest of the spam check."""

from __future__ import annotations

import datetime as dt
import subprocess
from typing import TYPE_CHECKING

import pytest
import structlog

from examples.mailflow import spamcheck
from examples.mailflow.messages import JUNK_FROM, Copy, Slip
from examples.mailflow.samples import all_samples
from examples.mailflow.samples.odd import GTUBE
from examples.mailflow.samples.sample import head, multipart, part
from examples.mailflow.spamcheck import NO_PERL, SpamCheck, Unchecked, spam_check, understood
from rolekit.errors import GuestFailed
from rolekit.guest.crew import guests_running
from rolekit.testing import FakeContext, set_guest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

FILTER = spamcheck.FILTER.parent / "junkfilter.pl"
NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)


def filtered(raw: bytes, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["perl", FILTER, *arguments], input=raw, capture_output=True, check=False
    )


async def copy_of(raw: bytes, ctx: FakeContext) -> Copy:
    slip = Slip(
        mail_id="m1",
        number=0,
        sender="ada@mail.example",
        rcpt="bob@mail.example",
        raw=await ctx.save(raw),
        accepted_at=NOON,
    )
    return Copy(slip=slip)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (head("Lunch") + b"\r\nat noon\r\n", b"0.0"),
        (head("Test") + b"\r\n" + GTUBE.encode() + b"\r\n", b"1000.0 gtube"),
        (
            b"From: x\r\nSubject: FINAL NOTICE LOTTERY\r\n\r\nact now, inheritance\r\n",
            b"6.0 money hurry loud-subject no-date",
        ),
        (head("=?utf-8?b?bG90dGVyeQ==?=") + b"\r\n", b"2.5 money"),
        (head("=?utf-8?q?wire?= =?utf-8?q?_transfer?=") + b"\r\n", b"2.5 money"),
        (
            head("Parts")
            + multipart(
                "mixed",
                part(
                    "text/plain",
                    b"lot=\r\nter=79",
                    "Content-Transfer-Encoding: quoted-printable",
                ),
                part("text/html", b"<b>act</b><br>now <style>urgent</style>"),
                part("image/gif", b"inheritance"),
            ),
            b"2.5 money",
        ),
        (head("Links") + b"\r\n" + b"http://far.example\r\n" * 9, b"0.0"),
        (head("Links") + b"\r\n" + b"http://far.example\r\n" * 10, b"2.0 many-links"),
        (b"", b"1.5 no-date no-sender"),
        (b"\xff\xfe\x00 no mail at all", b"1.5 no-date no-sender"),
    ],
)
def test_the_filter_scores_a_mail_by_its_rules(raw: bytes, line: bytes) -> None:
    ran = filtered(raw)

    assert ran.stdout == b"X-Junk: " + line + b"\n"
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_without_its_rules_the_filter_asks_to_be_tried_again(tmp_path: Path) -> None:
    ran = filtered(b"", tmp_path / "none.rules")

    assert ran.returncode == 75
    assert b"none.rules" in ran.stderr


async def test_as_a_guest_the_filter_says_of_each_sample_what_it_says_by_itself() -> None:
    role = SpamCheck()
    async with guests_running(role):
        for sample in all_samples():
            answer = await role.filter.ask(sample.raw[: spamcheck.SEEN_BYTES])

            assert answer == filtered(sample.raw).stdout, sample.name


@pytest.mark.parametrize(
    ("raw", "is_junk"),
    [
        (head("Lunch") + b"\r\nat noon\r\n", False),
        (head("Test") + b"\r\n" + GTUBE.encode() + b"\r\n", True),
        (head("Large") + b"\r\n" + b"x" * (1 << 20), False),
    ],
)
async def test_the_spam_check_knows_junk(raw: bytes, is_junk: bool) -> None:  # noqa: FBT001
    role, ctx = SpamCheck(), FakeContext()

    async with guests_running(role):
        got = await role.check(await copy_of(raw, ctx), ctx)

    assert (got.score >= JUNK_FROM) is is_junk
    assert ctx.writes == []


@pytest.mark.parametrize(
    "answer", [b"", b"X-Junk: many\n", b"X-Junk: 1.0", b"X-Junk: 1.0 a\nX-Junk: 1.0 b\n"]
)
async def test_garbage_for_an_answer_is_a_fault_of_the_guest(answer: bytes) -> None:
    class Garbler:
        async def ask(self, frame: bytes, /) -> bytes:
            return answer

    role, ctx = SpamCheck(), FakeContext()
    set_guest(role, "filter", Garbler())

    with pytest.raises(GuestFailed, match="an X-Junk line was expected"):
        await role.check(await copy_of(b"", ctx), ctx)


def test_an_answer_has_a_score_and_names() -> None:
    assert understood(b"X-Junk: 4.5 money no-date\n") == (4.5, ["money", "no-date"])


async def test_without_perl_mail_passes_unchecked_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert spam_check() is SpamCheck
    monkeypatch.setenv("PATH", str(tmp_path))
    assert spam_check() is Unchecked

    role, ctx = Unchecked(), FakeContext()
    with structlog.testing.capture_logs() as logs:
        await role.on_start()
    got = await role.check(await copy_of(GTUBE.encode(), ctx))

    assert [line["event"] for line in logs] == [NO_PERL]
    assert (got.score, got.rules) == (0, ["unchecked"])
