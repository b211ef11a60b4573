"""What each role of mailflow does with one message."""

from __future__ import annotations

import datetime as dt

import pytest

from examples.mailflow.deliverer import ATTEMPTS, Deliverer
from examples.mailflow.inspector import EICAR, Inspector
from examples.mailflow.messages import (
    Attachment,
    Bounced,
    Compose,
    Copy,
    Deliver,
    Delivered,
    Folder,
    Line,
    Progress,
    Report,
    Screened,
    Slip,
    Verdict,
)
from examples.mailflow.reporter import Reporter
from examples.mailflow.samples.sample import attached, head, multipart, part
from examples.mailflow.splitter import Splitter
from rolekit import Blob, Hole
from rolekit.testing import FakeContext, run_of

pytestmark = pytest.mark.anyio

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
RAW = Blob(id="letter", size_bytes=1)


def slip(rcpt: str = "bob@mail.example", *, number: int = 0, raw: Blob = RAW) -> Slip:
    return Slip(
        mail_id="m1",
        number=number,
        sender="ada@mail.example",
        rcpt=rcpt,
        raw=raw,
        accepted_at=NOON,
    )


def screened(raw: Blob = RAW, *, score: float = 0) -> Screened:
    return Screened(slip=slip(raw=raw), score=score, rules=[])


def deliver(rcpt: str, *, folder: Folder = "inbox") -> Deliver:
    return Deliver(slip=slip(rcpt, number=3), folder=folder, score=1)


async def test_a_split_has_one_copy_for_each_recipient_in_their_order() -> None:
    ctx = FakeContext(id="m7", now=NOON)
    raw = await ctx.save(b"Subject: x\r\n\r\n")
    mail = Compose(
        sender="a@mail.example", recipients=["c@mail.example", "b@x.example"], raw=raw
    )

    copies = [copy async for copy in Splitter().split(mail, ctx)]

    assert [(copy.slip.number, copy.slip.rcpt) for copy in copies] == [
        (0, "c@mail.example"),
        (1, "b@x.example"),
    ]
    assert {(copy.slip.mail_id, copy.slip.accepted_at) for copy in copies} == {("m7", NOON)}


async def test_a_split_keeps_the_bytes_of_the_letter() -> None:
    ctx = FakeContext()
    raw = await ctx.save(b"every\xff\x00byte\n")

    _ = [
        copy async for copy in Splitter().split(Compose(sender="", recipients=[], raw=raw), ctx)
    ]

    assert ctx.writes[0][1] == (raw.id, b"every\xff\x00byte\n")


def test_all_messages_but_the_first_carry_a_clock() -> None:
    inner = (Copy, Screened, Attachment, Verdict, Deliver, Delivered, Bounced)

    assert all("made_at" in cls.__annotations__ for cls in inner)
    assert "made_at" not in Compose.__annotations__
    assert Copy(slip=slip()).made_at.tzinfo is dt.UTC


async def test_attachments_come_out_in_the_order_of_the_mail() -> None:
    ctx = FakeContext()
    inner = multipart("mixed", attached("b.bin", b"two"), boundary="=_in")
    text = part("text/plain", b"hello\r\n")
    whole = multipart(
        "mixed", text, attached("a.bin", b"one"), inner, attached("c.bin", b"three")
    )
    raw = await ctx.save(head("Files") + whole)

    got = [attachment async for attachment in Inspector().open(screened(raw), ctx)]

    assert [attachment.name for attachment in got] == ["a.bin", "b.bin", "c.bin"]
    assert [await ctx.load(attachment.data) for attachment in got] == [b"one", b"two", b"three"]


async def test_a_mail_without_attachments_splits_into_nothing() -> None:
    ctx = FakeContext()
    raw = await ctx.save(head("Plain") + b"\r\nhello\r\n")

    assert [attachment async for attachment in Inspector().open(screened(raw), ctx)] == []


async def test_a_virus_in_an_attachment_is_found() -> None:
    ctx = FakeContext()
    raw = await ctx.save(head("Game") + multipart("mixed", attached("game.com", EICAR)))
    role = Inspector()

    [attachment] = [attachment async for attachment in role.open(screened(raw), ctx)]
    verdict = await role.scan(attachment, ctx)

    assert verdict.is_infected
    assert verdict.name == "game.com"


async def test_one_infected_attachment_bounces_the_copy() -> None:
    verdicts: list[Verdict | Hole] = [
        Verdict(name="a", is_infected=False),
        Verdict(name="b", is_infected=True),
    ]

    got = await Inspector().judge(screened(), verdicts)

    assert isinstance(got, Bounced)
    assert got.why == "infected attachment: b"


async def test_what_could_not_be_scanned_bounces_the_copy() -> None:
    hole = Hole(reason="dead-letter", detail="scan failed", dead_letter_id="d1")

    got = await Inspector().judge(screened(), [hole])

    assert isinstance(got, Bounced)


@pytest.mark.parametrize(("score", "folder"), [(0, "inbox"), (4.9, "inbox"), (5, "junk")])
async def test_the_score_decides_about_the_folder(score: float, folder: str) -> None:
    got = await Inspector().judge(screened(score=score), [])

    assert isinstance(got, Deliver)
    assert got.folder == folder


async def test_a_local_copy_is_one_row_in_the_mailbox() -> None:
    ctx = FakeContext(id="step1")

    got = await Deliverer().deliver(deliver("Bob@mail.example", folder="junk"), ctx)

    assert isinstance(got, Delivered)
    assert (got.number, got.rcpt, got.folder) == (3, "Bob@mail.example", "junk")
    [(sql, args)] = ctx.writes
    assert sql.startswith("insert into mail.mailbox")
    assert args[:3] == ("bob@mail.example", "m1", 3)
    assert args[7:] == ("step1", NOON)


@pytest.mark.parametrize(
    "rcpt", ["nobody@mail.example", "Nobody@MAIL.example", "a@far.example"]
)
async def test_an_address_without_a_mailbox_bounces_and_writes_nothing(rcpt: str) -> None:
    ctx = FakeContext()

    got = await Deliverer().deliver(deliver(rcpt), ctx)

    assert isinstance(got, Bounced)
    assert got.why.startswith("550 5.")
    assert ctx.writes == []


async def test_a_relay_that_never_answers_bounces_after_the_last_attempt() -> None:
    role = Deliverer()
    role.relay, role.relay_domains, role.relay_starttls = "127.0.0.1:1", "far.example", False

    got = await role.deliver(deliver("a@far.example"), FakeContext(attempt=ATTEMPTS))

    assert isinstance(got, Bounced)
    assert got.why.startswith(f"gave up after {ATTEMPTS} attempts: no answer")


async def test_a_report_tells_the_lines_in_the_order_of_the_recipients() -> None:
    ctx = FakeContext(id="m1")
    mail = Compose(sender="", recipients=["a@x", "b@x", "c@x", "d@x"], raw=RAW)
    closed: list[Delivered | Bounced | Hole] = [
        Delivered(number=0, rcpt="a@x", folder="inbox"),
        Delivered(number=1, rcpt="b@x", folder="junk"),
        Bounced(number=2, rcpt="c@x", why="no"),
        Hole(reason="deadline", detail="too late", dead_letter_id=None),
    ]

    progress, report = [reply async for reply in Reporter().report(mail, run_of(*closed), ctx)]

    assert progress == Progress(
        done=4,
        of=4,
        lines=[
            Line(number=0, rcpt="a@x", outcome="delivered"),
            Line(number=1, rcpt="b@x", outcome="junk"),
            Line(number=2, rcpt="c@x", outcome="bounced", detail="no"),
            Line(number=3, rcpt="d@x", outcome="lost", detail="too late"),
        ],
    )
    assert report == Report(of=4, delivered=1, junk=1, bounced=1, lost=1)


async def test_a_later_run_goes_on_counting_where_the_one_before_ended() -> None:
    ctx = FakeContext()
    mail = Compose(sender="", recipients=["a@x", "b@x"], raw=RAW)
    first = run_of(Delivered(number=0, rcpt="a@x", folder="inbox"), is_last=False)
    last = run_of(Delivered(number=1, rcpt="b@x", folder="inbox"), offset=1)
    role = Reporter()

    early = [reply async for reply in role.report(mail, first, ctx)]
    late = [reply async for reply in role.report(mail, last, ctx)]

    assert [reply.done for reply in (*early, *late) if isinstance(reply, Progress)] == [1, 2]
    assert late[-1] == Report(of=2, delivered=2, junk=0, bounced=0, lost=0)


async def test_the_lines_of_a_report_are_written_with_it() -> None:
    ctx = FakeContext(id="m1")
    mail = Compose(sender="", recipients=["a@x", "b@x"], raw=RAW)
    closed: list[Delivered | Bounced | Hole] = [
        Delivered(number=0, rcpt="a@x", folder="inbox"),
        Bounced(number=1, rcpt="b@x", why="no"),
    ]

    _ = [reply async for reply in Reporter().report(mail, run_of(*closed), ctx)]

    [(_, args)] = ctx.writes
    assert args == ("m1", [0, 1], ["a@x", "b@x"], ["delivered", "bounced"], ["", "no"])
