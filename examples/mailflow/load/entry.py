"""What `rolekit load` sends to mailflow, and how it knows that nothing went wrong.

A request is a mail: sent by HTTP or SMTP, and done when its report is complete, which is when
the last of its copies has been delivered or bounced.
"""

from __future__ import annotations

import os
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import aiohttp
import asyncpg

from examples.mailflow import checker
from examples.mailflow.load.mails import DOMAIN, Mail, Sender, Target, Way
from examples.mailflow.samples import all_samples
from rolekit.load import Checked, Failure, Ran, Run, Sent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from examples.mailflow.samples import Sample
    from rolekit.load.scenario import Call, Scenario

_PEOPLE = 300
_SHOWN = 3
_SMALL_BYTES = 20_000


@asynccontextmanager
async def mails(run: Run) -> AsyncGenerator[Callable[[int], Awaitable[Sent]]]:
    """Give what sends the mail of a number and waits for its report."""
    entry = cast("Call", run.scenario.entry)
    target = _target(entry)
    make = maker(run.scenario, run.id)
    async with (
        Sender(target, patience_s=run.scenario.timeout_s) as sender,
        aiohttp.ClientSession(
            base_url=target.front, connector=aiohttp.TCPConnector(limit=0)
        ) as session,
    ):

        async def send(number: int) -> Sent:
            mail_id = await sender.send(make(number))
            if entry.options.get("until", "report") == "report":
                await _read_report(session, mail_id)
            return Sent(mail_id)

        yield send


async def _read_report(session: aiohttp.ClientSession, mail_id: str) -> None:
    """Follow the live report until it is complete, as its page does."""
    last = ""
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        try:
            async with session.get(f"/mail/{mail_id}/live", headers=headers) as answer:
                if answer.status == 200:
                    async for line in answer.content:
                        name, _, value = line.decode().rstrip().partition(": ")
                        if name == "id":
                            last = value
                        if name == "event" and value == "Report":
                            return
                elif answer.status < 500:
                    raise Failure(f"report: HTTP {answer.status}")
        except aiohttp.ClientError:
            pass  # an instance was killed; the page connects again, too


async def check(ran: Ran) -> Checked:
    """Compare what was sent with mailboxes and reports."""
    make = maker(ran.scenario, ran.run)
    sent = [make(number).expected(mail_id) for number, mail_id in ran.ids.items()]
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(ran.database)
    try:
        found = await checker.check(connection, sent)
    finally:
        await connection.close()
    return Checked(
        lost=found.lost,
        repeated=found.duplicates,
        out_of_order=found.out_of_order,
        notes=(
            _summed_up(found),
            *found.problems[:_SHOWN],
        ),
    )


def _summed_up(found: checker.Findings) -> str:
    return (
        f"{found.mails:,} mails, {found.copies:,} copies: {found.delivered:,} delivered, "
        f"{found.bounced:,} bounced as they should."
    )


def maker(scenario: Scenario, run: str) -> Callable[[int], Mail]:
    """Return what makes the mail of a number: the same for the same run."""
    options = cast("Call", scenario.entry).options
    copies, way = int(options.get("copies", "10")), cast("Way", options.get("way", "raw"))
    samples = _samples(way, has_large=options.get("large", "") == "yes")
    everybody = [f"person-{number:03}@{DOMAIN}" for number in range(_PEOPLE)]

    def make(number: int) -> Mail:
        chance = random.Random(f"{run}-{number}")  # noqa: S311 - a load, wanted again
        sample = samples[number % len(samples)]
        return Mail(
            key=f"{run}-{number}",
            raw=f"X-Mailflow-Load: {run}-{number}\r\n".encode() + sample.raw,
            sender=f"sender-{chance.randrange(10)}@{DOMAIN}",
            recipients=tuple(chance.sample(everybody, copies)),
            bounces=sample.fate == "infected",
            way=way,
        )

    return make


def _samples(way: Way, *, has_large: bool) -> list[Sample]:
    return [
        sample
        for sample in all_samples()
        if (way != "smtp" or sample.fits_smtp)
        and (has_large or len(sample.raw) <= _SMALL_BYTES)
    ]


def _target(entry: Call) -> Target:
    smtp = os.environ.get("MAILFLOW_SMTP") or entry.options.get("smtp", "127.0.0.1:2525")
    host, _, port = smtp.rpartition(":")
    front = entry.url or "http://127.0.0.1:8025"
    return Target(front=front.rstrip("/"), smtp_host=host, smtp_port=int(port))
