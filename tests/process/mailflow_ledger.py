"""A second checker of mailflow, which shares nothing with the first one but its record.

`examples.mailflow.checker` walks rows in Python, mail by mail. This one asks the database
set by set, and looks at what the first one never reads: rolekit's own tables. Both must say
that all is well.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from examples.mailflow.checker import Expected

_EXPECTED = "create temp table expected (sha text, place int, rcpt text, owner text)"

_FINDINGS = {
    "copies that are in no mailbox": """
        select count(*) from expected e where owner is not null and not exists (
            select from mail.mailbox b join sha on sha.id = b.letter
            where sha.sha = e.sha and b.position = e.place and b.owner = e.owner)""",
    "copies that are in a mailbox twice": """
        select coalesce(sum(times - 1), 0) from (
            select count(*) as times from mail.mailbox
            group by letter, position having count(*) > 1) as repeated""",
    "letters delivered under two ids": """
        select count(*) from (
            select letter from mail.mailbox group by letter
            having count(distinct mail_id) > 1) as split""",
    "mailbox rows that nobody expects": """
        select count(*) from mail.mailbox b join sha on sha.id = b.letter
        where not exists (select from expected e
            where e.sha = sha.sha and e.place = b.position and e.owner = b.owner)""",
    "report lines missing": """
        select count(*) from expected e where not exists (
            select from mail.report r join mail.sent s on s.id = r.mail_id
            join sha on sha.id = s.letter
            where sha.sha = e.sha and r.number = e.place and r.rcpt = e.rcpt)""",
    "report lines repeated": """
        select coalesce(sum(times - 1), 0) from (
            select count(*) as times from mail.report
            group by mail_id, number having count(*) > 1) as repeated""",
    "report lines out of order": """
        select count(*) from (
            select number, row_number() over (partition by mail_id order by n) - 1 as turn
            from mail.report) as told where number <> turn""",
    "outcomes of one generation beyond the first": """
        select coalesce(sum(times - 1), 0) from (
            select count(*) as times from rolekit_mailflow.inbox
            group by id, generation having count(*) > 1) as repeated""",
    "retries whose next generation has no outcome": """
        select count(*) from rolekit_mailflow.inbox i where outcome = 2 and not exists (
            select from rolekit_mailflow.inbox n
            where n.id = i.id and n.generation = i.generation + 1)""",
    "generations without a retry before them": """
        select count(*) from rolekit_mailflow.inbox i where generation > 0 and not exists (
            select from rolekit_mailflow.inbox b
            where b.id = i.id and b.generation = i.generation - 1 and b.outcome = 2)""",
    "dead letters": "select count(*) from rolekit_mailflow.dead_letter",
    "sequences not finished": "select count(*) from rolekit_mailflow.sequence where state <> 1",
    "parts left": "select count(*) from rolekit_mailflow.part",
    "scheduled": "select count(*) from rolekit_mailflow.schedule",
    "in the outbox": "select count(*) from rolekit_mailflow.outbox",
}
_QUEUED = "select count(*) from rolekit_mailflow.queue"


@dataclass(frozen=True, slots=True)
class Ledger:
    """What should all be zero, by name."""

    wrong: dict[str, int]

    @property
    def is_clean(self) -> bool:
        """Whether it all is."""
        return not any(self.wrong.values())

    def __str__(self) -> str:
        """List what is not zero."""
        return ", ".join(f"{n} {what}" for what, n in self.wrong.items() if n) or "all zeros"


async def read_ledger(
    connection: asyncpg.Connection[asyncpg.Record],
    queues: asyncpg.Connection[asyncpg.Record],
    sent: Sequence[Expected],
) -> Ledger:
    """Compare what was sent with the tables of a database that saw no other run.

    Args:
        connection: To the app's database.
        queues: To the one that has the queues.
        sent: Everything that was sent.
    """
    await connection.execute(_EXPECTED)
    await connection.execute(
        "create temp view sha as select id, encode(sha256(raw), 'hex') as sha from mail.letter"
    )
    records = [
        (mail.sha256, place, mail.recipients[place], owner)
        for mail in sent
        for place, owner in enumerate(mail.owners)
    ]
    await connection.copy_records_to_table("expected", records=records)
    wrong = {what: int(await connection.fetchval(sql)) for what, sql in _FINDINGS.items()}
    wrong["queued"] = int(await queues.fetchval(_QUEUED))
    return Ledger(wrong)


def report(ledger: Ledger) -> str:
    """Print every count, for a log."""
    return "\n".join(f"{count:6} {what}" for what, count in asdict(ledger)["wrong"].items())
