"""One mail through mailflow is one trace, as a receiver that nobody here wrote sees it.

200 recipients and two attachments: every stage has its spans, each of which has its parent,
and the ordered report ends the trace. The same while instances are killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
from collections import Counter
from email.message import EmailMessage
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest

from tests.otlp_receiver import receiving
from tests.patience import patient
from tests.process.killing import MailflowFleet

if TYPE_CHECKING:
    from pathlib import Path

    from tests.otlp_receiver import Got, Receiver

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(120)]

STAGES = {
    "Splitter.split", "SpamCheck.check", "Inspector.open", "Inspector.scan", "Inspector.judge",
    "Deliverer.deliver", "Reporter.report",
}  # fmt: skip
CONVENTIONS = {
    "messaging.process.duration", "messaging.client.operation.duration",
    "messaging.client.sent.messages", "messaging.client.consumed.messages",
}  # fmt: skip
METRICS = CONVENTIONS | {"rolekit.outcomes", "rolekit.queue.wait"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, ABOVE = PARENT.split("-")[1:3]


def letter(n: int) -> bytes:
    """Write a mail with two attachments."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@example.org", "list@example.org", f"no {n}"
    mail.set_content("See the attachments.\n")
    for name in ("one.txt", "two.txt"):
        mail.add_attachment(f"{name} of {n}\n".encode(), maintype="text", subtype="plain",
                            filename=name)  # fmt: skip
    return mail.as_bytes()


async def post(fleet: MailflowFleet, recipients: int, headers: dict[str, str]) -> str:
    """Send a mail over HTTP; return its id."""
    to = ",".join(f"user{n}@example.org" for n in range(recipients))
    async with httpx.AsyncClient(base_url=fleet.target.front, timeout=patient(30)) as http:
        answer = await http.post(
            "/mail/raw",
            params={"sender": "a@example.org", "to": to},
            content=letter(recipients),
            headers=headers,
        )
        assert answer.status_code == 202, answer.text
        mail: str = answer.json()["id"]
        return mail


async def follow(fleet: MailflowFleet, mail: str) -> None:
    """Read the live report of a mail to its end, as part of the trace of the mail."""
    async with (
        httpx.AsyncClient(base_url=fleet.target.front, timeout=patient(30)) as http,
        http.stream("GET", f"/mail/{mail}/live", headers={"traceparent": PARENT}) as answer,
    ):
        async for line in answer.aiter_lines():
            if line == "event: Report":
                return


async def reported(database: str, mail: str) -> list[tuple[int, str]]:
    """Return the lines of a report: number and outcome, in the order they were written."""
    connection = await asyncpg.connect(database)
    try:
        rows = await connection.fetch(
            "select number, outcome from mail.report where mail_id = $1 order by n", mail
        )
    finally:
        await connection.close()
    return [(row["number"], row["outcome"]) for row in rows]


async def until_reported(database: str, mail: str, recipients: int) -> None:
    async with asyncio.timeout(patient(60)):
        while len(await reported(database, mail)) < recipients:  # noqa: ASYNC110 - a database tells nobody
            await asyncio.sleep(0.1)


async def until_whole(receiver: Receiver, *, or_killed: bool = False) -> None:
    """Wait until every stage is there, whatever caused it, and all metrics.

    What is wrong is said later. Numbers go twice a second here, and a stop waits for none.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patient(30)):
            while (  # noqa: ASYNC110 - it runs in a thread
                not is_whole(traced(receiver), or_killed=or_killed)
                or not receiver.metrics >= METRICS
            ):
                await asyncio.sleep(0.2)


def is_whole(spans: list[Got], *, or_killed: bool) -> bool:
    """Whether every stage is there, and whatever caused what is there."""
    return handlers_of(spans, or_killed=or_killed).keys() >= STAGES and not orphans(spans)


def traced(receiver: Receiver) -> list[Got]:
    """Return the spans of the mail."""
    return [span for span in receiver.spans if span.trace == TRACE]


def orphans(spans: list[Got], above: str = ABOVE) -> list[str]:
    """Name the spans whose parent, or what they link to, is not there."""
    known = {span.id for span in spans} | {above}
    return [
        span.name
        for span in spans
        if span.parent not in known or any(id_ not in known for _, id_ in span.links)
    ]


def handlers_of(spans: list[Got], *, or_killed: bool = False) -> dict[str, int]:
    """Count the messages that came to an outcome, by handler.

    Args:
        spans: Where to look.
        or_killed: Count those as well whose instance was killed. One that is killed just after
            its commit has no time left to say that its attempt ended, and nobody attempts it
            again.
    """
    found: dict[str, set[object]] = {}
    for span in spans:
        was_killed = span.attributes.get("rolekit.outcome") == "instance ended"
        if span.name.startswith("process ") and (not span.error or (or_killed and was_killed)):
            handler = span.name.removeprefix("process ")
            found.setdefault(handler, set()).add(span.attributes["messaging.message.id"])
    return {handler: len(ids) for handler, ids in found.items()}


def settings(url: str) -> dict[str, str]:
    return {
        "ROLEKIT_TRACES": "0",
        "ROLEKIT_OTLP": url,
        "ROLEKIT_LOG": "warning",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
    }


async def test_a_mail_to_200_recipients_is_one_trace(
    tmp_path: Path, rolekit_database: str
) -> None:
    with receiving("http") as (receiver, url):
        async with MailflowFleet(tmp_path, rolekit_database, settings(url)) as fleet:
            mail = await post(fleet, 200, {"traceparent": PARENT})
            await until_reported(rolekit_database, mail, 200)
            await follow(fleet, mail)
            await until_whole(receiver)
        spans = traced(receiver)  # the last ones came when the fleet stopped

    counts = handlers_of(spans)
    assert orphans(spans) == []
    assert counts.keys() >= STAGES
    assert counts["SpamCheck.check"] == counts["Deliverer.deliver"] == 200
    assert counts["Inspector.scan"] == 400
    (front,) = [span for span in spans if span.name == "POST /mail/raw"]
    assert (front.parent, front.kind) == (ABOVE, 2)
    assert {span.service for span in spans} == {"mailflow"}
    report = [s for s in spans if s.name == "process Reporter.report" and s.links]
    assert sum(int(str(s.attributes["messaging.batch.message_count"])) for s in report) == 200
    assert max(spans, key=lambda span: span.begun_ns).name in {
        "process Reporter.report", "commit", "receive Report"
    }  # fmt: skip
    assert [n for n, _ in await reported(rolekit_database, mail)] == list(range(200))
    assert receiver.metrics >= METRICS


def submit(port: int, recipients: int) -> str:
    """Send a mail over SMTP; return its id."""
    with smtplib.SMTP("127.0.0.1", port, timeout=patient(30)) as smtp:
        smtp.ehlo()
        smtp.mail("a@mail.example")
        for n in range(recipients):
            assert smtp.rcpt(f"user{n}@mail.example")[0] == 250
        code, said = smtp.data(letter(recipients).replace(b"\n", b"\r\n"))
    assert code == 250, said
    return said.decode().rpartition(" ")[2]


async def test_the_trace_of_a_mail_over_smtp_begins_with_its_data(
    tmp_path: Path, rolekit_database: str
) -> None:
    with receiving("http") as (receiver, url):
        wanted = {**settings(url), "ROLEKIT_TRACES": "1"}
        async with MailflowFleet(tmp_path, rolekit_database, wanted) as fleet:
            mail = await asyncio.to_thread(submit, fleet.target.smtp_port, 5)
            await until_reported(rolekit_database, mail, 5)

            def of_mail() -> list[Got]:
                begun = [span.trace for span in receiver.spans if span.name == "DATA"]
                return [span for span in receiver.spans if span.trace in begun]

            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patient(30)):
                    while not handlers_of(of_mail()).keys() >= STAGES or orphans(of_mail(), ""):  # noqa: ASYNC110 - it runs in a thread
                        await asyncio.sleep(0.2)
    spans = of_mail()

    (data,) = [span for span in spans if span.name == "DATA"]
    assert (data.parent, data.kind) == ("", 2)
    assert data.attributes["network.protocol.name"] == "smtp"
    assert [s.name for s in spans if s.parent == data.id] == ["send Splitter.split"]
    assert handlers_of(spans).keys() >= STAGES
    assert orphans(spans, "") == []


async def kill_one(fleet: MailflowFleet, role: str) -> int:
    """Kill an instance of a role as soon as there is one; return how many that were."""
    while not any(one.kill() for one in await fleet.processes() if one.role == role):  # noqa: ASYNC110 - processes tell nobody
        await asyncio.sleep(0.05)
    return 1


@pytest.mark.faults
@pytest.mark.timeout(180)
async def test_the_trace_is_whole_although_instances_are_killed(
    tmp_path: Path, rolekit_database: str
) -> None:
    with receiving("grpc") as (receiver, url):
        via = {**settings(url), "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        async with MailflowFleet(tmp_path, rolekit_database, via) as fleet:
            mail = await post(fleet, 200, {"traceparent": PARENT})
            killed = Counter[str]()
            for role in ("SpamCheck", "Inspector", "Deliverer", "Inspector", "Reporter"):
                killed[role] += await kill_one(fleet, role)
                await asyncio.sleep(0.15)
            await until_reported(rolekit_database, mail, 200)
            await until_whole(receiver, or_killed=True)
        spans = traced(receiver)  # the last ones came when the fleet stopped

    counts = handlers_of(spans, or_killed=True)
    assert killed.total() == 5
    assert orphans(spans) == []
    assert counts.keys() >= STAGES
    assert all(span.ended_ns >= span.begun_ns for span in spans)
    assert [n for n, _ in await reported(rolekit_database, mail)] == list(range(200))
