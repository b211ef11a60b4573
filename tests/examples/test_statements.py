"""What the handlers write is what the tables take and the pages and the checker read."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

import pytest

from examples.mailflow import boxes
from examples.mailflow.checker import Expected, check
from examples.mailflow.deliverer import Deliverer
from examples.mailflow.messages import Bounced, Compose, Deliver, Delivered
from examples.mailflow.reporter import Reporter
from examples.mailflow.splitter import Splitter
from rolekit.testing import FakeContext, run_of
from tests.examples.database import Tables, tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rolekit import Hole

pytestmark = pytest.mark.anyio

RAW = b"Subject: hello\r\n\r\n\x00\xff\r\n"
MAIL_ID = "aa01"


@pytest.fixture
async def found(rolekit_database: str) -> AsyncIterator[Tables]:
    async with tables(rolekit_database) as database:
        yield database


async def commit(database: Tables, ctx: FakeContext) -> None:
    async with database.connection.transaction():
        for sql, args in ctx.writes:
            await database.connection.execute(sql, *args)
    ctx.writes.clear()


async def test_a_mail_goes_from_its_split_to_its_report_in_the_tables(found: Tables) -> None:
    ctx = FakeContext(id=MAIL_ID, now=dt.datetime.now(dt.UTC))
    mail = Compose(
        sender="ada@mail.example",
        recipients=["bob@mail.example", "nobody@mail.example"],
        raw=await ctx.save(RAW),
    )

    copies = [copy async for copy in Splitter().split(mail, ctx)]
    await commit(found, ctx)
    closed: list[Delivered | Bounced | Hole] = []
    for copy in copies:
        whole = Deliver(slip=copy.slip, folder="inbox", score=1.5)
        closed.append(await Deliverer().deliver(whole, ctx))
        await commit(found, ctx)
    _ = [reply async for reply in Reporter().report(mail, run_of(*closed), ctx)]
    await commit(found, ctx)

    sent = Expected(
        sha256=hashlib.sha256(RAW).hexdigest(),
        recipients=mail.recipients,
        owners=["bob@mail.example", None],
        mail_id=MAIL_ID,
    )
    findings = await check(found.connection, [sent])
    assert findings.problems == []
    assert findings.is_clean
    async with found.tx() as tx:
        [box] = await boxes.boxes(tx, after="")
        [item] = await boxes.items(tx, "bob@mail.example", before=2**62)
        received = await boxes.received(tx, item.n)
        lines = await boxes.report(tx, MAIL_ID)
    assert (box.owner, box.letters, item.letter.subject) == ("bob@mail.example", 1, "hello")
    assert received is not None
    assert (received.raw, received.step_id, received.score) == (RAW, MAIL_ID, 1.5)
    assert [(line.number, line.outcome) for line in lines] == [(0, "delivered"), (1, "bounced")]


async def test_two_mails_of_the_same_bytes_share_a_letter(found: Tables) -> None:
    for name in ("m1", "m2"):
        ctx = FakeContext(id=name)
        mail = Compose(sender="", recipients=["b@mail.example"], raw=await ctx.save(RAW))
        _ = [copy async for copy in Splitter().split(mail, ctx)]
        await commit(found, ctx)

    assert await found.connection.fetchval("select count(*) from mail.letter") == 1
    assert await found.connection.fetchval("select count(*) from mail.sent") == 2
