"""The checker: from a record of what was sent, and the database, what became of it.

It shares no code with rolekit or with mailflow's roles, so that a mistake there is not made
twice. What it knows comes from the sender's own record; what it believes comes from the
tables of `schema.sql`, which have no unique index that could hide a copy delivered twice.

How copies are counted. A copy is one place in the list of recipients of one mail, and the
letter's SHA-256 says which mail: ids of rolekit are not trusted. A copy that should arrive
is *delivered* when a mailbox row has its place, its owner and exactly its bytes; each further
such row is a *duplicate*. A copy that should bounce (unknown address, virus) is accounted for
when its report line says "bounced" and no row has it; so C = delivered + rightly bounced, or
something is wrong. Everything else, also a copy without a line in the report, is *lost*. A
line is *out of order* when it does not name the recipient whose turn it is.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

SHOWN = 20
"""Problems listed one by one, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One mail as its sender remembers it.

    Attributes:
        sha256: Of its bytes, in hex; no two mails of a run have the same.
        owners: Mailbox by place; None where the copy has to bounce.
        recipients: As given, by place.
        mail_id: The receipt; empty when the sender never got one.
    """

    sha256: str
    recipients: Sequence[str]
    owners: Sequence[str | None]
    mail_id: str


@dataclass(frozen=True, slots=True)
class _Line:
    mail_id: str
    number: int
    rcpt: str
    outcome: str


@dataclass(slots=True)
class Findings:
    """What the check found."""

    mails: int = 0
    copies: int = 0
    delivered: int = 0
    bounced: int = 0
    lost: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    waits_ms: list[float] = field(default_factory=list[float])
    problems: list[str] = field(default_factory=list[str])

    @property
    def is_clean(self) -> bool:
        """Nothing lost, repeated or reordered, nothing dead, nothing unforeseen."""
        is_complete = self.copies == self.delivered + self.bounced
        return is_complete and not (
            self.lost or self.duplicates or self.out_of_order or self.problems
        )

    def quantile_ms(self, share: float) -> float:
        """Return the wait that `share` of the delivered copies did not exceed."""
        if not self.waits_ms:
            return 0
        ranked = sorted(self.waits_ms)
        return ranked[max(0, math.ceil(share * len(ranked)) - 1)]

    def last_line(self) -> str:
        """Sum up in the one line that `make demo ONCE=1` ends with."""
        return (
            f"mailflow: {self.mails} mails, {self.copies} copies, delivered {self.delivered},"
            f" lost {self.lost}, duplicates {self.duplicates},"
            f" out of order {self.out_of_order},"
            f" p50 {self.quantile_ms(0.5):.0f} ms, p99 {self.quantile_ms(0.99):.0f} ms"
        )


async def check(
    connection: asyncpg.Connection[asyncpg.Record], sent: Sequence[Expected]
) -> Findings:
    """Compare what was sent with what the database says.

    Args:
        connection: To the app's database.
        sent: All mails of this run; what earlier runs left in the database is not looked at.
    """
    findings = Findings(mails=len(sent), copies=sum(len(mail.owners) for mail in sent))
    rows = await _mailbox_rows(connection, sent, findings)
    lines = await _report_lines(connection, sent)
    for mail in sent:
        _check_mail(mail, rows, lines.get(mail.sha256, []), findings)
    await _list_dead(connection, findings)
    return findings


async def count_closed(
    connection: asyncpg.Connection[asyncpg.Record], sent: Sequence[Expected]
) -> int:
    """Count the report lines of these mails: how far the run is."""
    count: object = await connection.fetchval(
        "select count(*) from mail.report where mail_id = any($1)",
        [mail.mail_id for mail in sent],
    )
    return count if isinstance(count, int) else 0


_Rows = dict[tuple[str, int, str], int]


async def _mailbox_rows(
    connection: asyncpg.Connection[asyncpg.Record], sent: Sequence[Expected], findings: Findings
) -> _Rows:
    """Count rows by letter, place and owner; rows nobody expects are problems."""
    expected = {
        (mail.sha256, place, owner)
        for mail in sent
        for place, owner in enumerate(mail.owners)
        if owner is not None
    }
    records = await connection.fetch(
        "with letters as (select id, encode(sha256(raw), 'hex') as sha from mail.letter)"
        " select sha, position, owner, extract(epoch from delivered_at - accepted_at) * 1000"
        " as wait_ms from mail.mailbox join letters on letters.id = mailbox.letter"
        " where mail_id = any($1) or sha = any($2) order by n",
        [mail.mail_id for mail in sent],
        [mail.sha256 for mail in sent],
    )
    rows: _Rows = Counter()
    for record in records:
        key = (str(record["sha"]), int(record["position"]), str(record["owner"]))
        rows[key] += 1
        if key not in expected:
            findings.problems.append(
                f"nobody sent this: {key[2]} has letter {key[0][:12]} at place {key[1]}"
            )
        elif rows[key] == 1:
            findings.waits_ms.append(float(record["wait_ms"]))
    return rows


async def _report_lines(
    connection: asyncpg.Connection[asyncpg.Record], sent: Sequence[Expected]
) -> dict[str, list[_Line]]:
    """Return report lines by letter, in the order in which they were written."""
    records = await connection.fetch(
        "with letters as (select id, encode(sha256(raw), 'hex') as sha from mail.letter)"
        " select sha, mail_id, number, rcpt, outcome"
        " from mail.report join mail.sent on sent.id = report.mail_id"
        " join letters on letters.id = sent.letter where sha = any($1) order by report.n",
        [mail.sha256 for mail in sent],
    )
    lines: dict[str, list[_Line]] = defaultdict(list)
    for record in records:
        line = _Line(record["mail_id"], record["number"], record["rcpt"], record["outcome"])
        lines[record["sha"]].append(line)
    return lines


def _check_mail(mail: Expected, rows: _Rows, lines: list[_Line], findings: Findings) -> None:
    outcomes = _check_lines(mail, lines, findings)
    for place, owner in enumerate(mail.owners):
        copy = f"copy {place} of letter {mail.sha256[:12]} to {mail.recipients[place]}"
        outcome = outcomes.get(place, "no line")
        found = rows.get((mail.sha256, place, owner), 0) if owner is not None else 0
        if found > 1:
            findings.duplicates += found - 1
            findings.problems.append(f"{copy}: {found} rows")
        if owner is not None and found and outcome in {"delivered", "junk"}:
            findings.delivered += 1
        elif owner is None and outcome == "bounced":
            findings.bounced += 1
        else:
            findings.lost += 1
            findings.problems.append(f"{copy}: {found} rows, report says {outcome}")


def _check_lines(mail: Expected, lines: list[_Line], findings: Findings) -> dict[int, str]:
    """Walk the report as it was written: each line must be the next recipient's."""
    outcomes: dict[int, str] = {}
    turn = 0
    for line in lines:
        if line.number in outcomes:
            findings.duplicates += 1
            findings.problems.append(f"report of {line.mail_id}: line {line.number} twice")
            continue
        is_next = line.number == turn and line.number < len(mail.recipients)
        if not is_next or line.rcpt != mail.recipients[line.number]:
            findings.out_of_order += 1
            findings.problems.append(
                f"report of {line.mail_id}: {line.rcpt} at {line.number}, when {turn} was due"
            )
        outcomes[line.number] = line.outcome
        turn = line.number + 1
    return outcomes


async def _list_dead(
    connection: asyncpg.Connection[asyncpg.Record], findings: Findings
) -> None:
    records = await connection.fetch(
        "select id, handler, reason from rolekit_mailflow.dead_letter"
        " where closed_at is null order by at_ms"
    )
    findings.problems += [
        f"dead letter {record['id']} of {record['handler']}: {record['reason']}"
        for record in records
    ]
