"""What the pages read from Postgres."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import msgspec

from examples.mailflow.mailtext import Letter

if TYPE_CHECKING:
    from rolekit.flow.context import Transaction

PAGE = 100
"""Rows on one page."""


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """One mailbox."""

    owner: str
    letters: int
    junk: int
    latest: dt.datetime


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One message in a mailbox; `top` is the beginning of its bytes."""

    n: int
    sender: str
    folder: str
    delivered_at: dt.datetime
    size_bytes: int
    top: bytes

    @property
    def letter(self) -> Letter:
        """The headers, as far as `top` has them."""
        return Letter.read(self.top)


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One message, whole."""

    n: int
    owner: str
    mail_id: str
    sender: str
    folder: str
    score: float
    step_id: str
    accepted_at: dt.datetime
    delivered_at: dt.datetime
    raw: bytes


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One mail that was accepted."""

    id: str
    sender: str
    copies: int
    accepted_at: dt.datetime
    closed: int
    top: bytes

    @property
    def subject(self) -> str:
        """The subject, as far as `top` has it."""
        return Letter.read(self.top).subject


class ReportLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a report."""

    number: int
    rcpt: str
    outcome: str
    detail: str


async def boxes(tx: Transaction, *, after: str) -> list[Box]:
    """List mailboxes by owner, from behind `after`."""
    return await tx.fetch(
        Box,
        "select owner, count(*) as letters, count(*) filter (where folder = 'junk') as junk,"
        " max(delivered_at) as latest from mail.mailbox where owner > $1"
        " group by owner order by owner limit $2",
        after,
        PAGE + 1,
    )


async def items(tx: Transaction, owner: str, *, before: int) -> list[Item]:
    """List a mailbox, newest first, from `before` down."""
    return await tx.fetch(
        Item,
        "select box.n, box.sender, box.folder, box.delivered_at,"
        " octet_length(letter.raw) as size_bytes, substring(letter.raw from 1 for 8192) as top"
        " from mail.mailbox as box join mail.letter on letter.id = box.letter"
        " where box.owner = $1 and box.n < $2 order by box.n desc limit $3",
        owner,
        before,
        PAGE + 1,
    )


async def received(tx: Transaction, n: int) -> Received | None:
    """Read one message."""
    return await tx.fetch_one(
        Received,
        "select box.n, box.owner, box.mail_id, box.sender, box.folder, box.score, box.step_id,"
        " box.accepted_at, box.delivered_at, letter.raw"
        " from mail.mailbox as box join mail.letter on letter.id = box.letter where box.n = $1",
        n,
    )


async def sent(tx: Transaction) -> list[Sent]:
    """List the mails accepted last."""
    return await tx.fetch(
        Sent,
        "select sent.id, sent.sender, sent.copies, sent.accepted_at,"
        " (select count(*) from mail.report where mail_id = sent.id) as closed,"
        " substring(letter.raw from 1 for 8192) as top"
        " from mail.sent join mail.letter on letter.id = sent.letter"
        " order by sent.accepted_at desc limit $1",
        PAGE,
    )


async def sent_one(tx: Transaction, mail_id: str) -> Sent | None:
    """Read what was sent; None while nobody has split it yet."""
    return await tx.fetch_one(
        Sent,
        "select sent.id, sent.sender, sent.copies, sent.accepted_at,"
        " (select count(*) from mail.report where mail_id = sent.id) as closed,"
        " substring(letter.raw from 1 for 8192) as top"
        " from mail.sent join mail.letter on letter.id = sent.letter where sent.id = $1",
        mail_id,
    )


async def report(tx: Transaction, mail_id: str) -> list[ReportLine]:
    """Read the lines of a report that have closed, in the order they did."""
    return await tx.fetch(
        ReportLine,
        "select number, rcpt, outcome, detail from mail.report where mail_id = $1 order by n",
        mail_id,
    )
