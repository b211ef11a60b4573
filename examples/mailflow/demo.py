"""The demo: `make demo`, or `python -m examples.mailflow.demo [--once]`.

With `--front` and `--smtp` it sends to a mailflow that runs elsewhere, as in containers.

Starts mailflow with several instances, on the embedded database or on one of yours, sends
the samples to hundreds of recipients over HTTP and SMTP, follows them, prints a report in
the order of its recipients, and checks in the database that nothing was lost, repeated or
reordered. Stays up until Ctrl-C, or with `--once` ends by itself, with 1 unless all is well.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import httpx
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.mailflow import checker, fleet, spamcheck
from examples.mailflow.load import Mail, NotAccepted, Sender, Target, make_load
from examples.mailflow.samples import all_samples
from rolekit import config
from rolekit.errors import RolekitError
from rolekit.store import embedded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

STALLED_S = 60.0
"""Seconds without a new line in any report after which the demo stops waiting."""

PATIENCE_S = 120.0
"""Seconds for which a mail is tried."""

_SHOWN = 12
_STYLES = {"delivered": "green", "junk": "yellow", "bounced": "red", "lost": "bold red"}


class _Line(msgspec.Struct):
    number: int
    rcpt: str
    outcome: str
    detail: str


class _Progress(msgspec.Struct):
    of: int
    lines: list[_Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    once: bool
    database: str
    home: Path
    copies: int
    people: int
    target: Target | None


@dataclass(slots=True)
class Followed:
    """The report of one mail as its page gets it."""

    mail_id: str = ""
    lines: list[_Line] = field(default_factory=list[_Line])


def main() -> int:
    """Run the demo; return its exit code."""
    console = Console()
    try:
        findings = asyncio.run(_demo(_options(), console))
    except (fleet.NotStarted, NotAccepted, RolekitError) as error:
        _say_failed(console, str(error))
        return 1
    except ExceptionGroup as group:
        refused, others = group.split(NotAccepted)
        if refused is None or others is not None:
            raise
        for refusal in refused.exceptions:
            _say_failed(console, f"Not accepted: {refusal}")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0
    print(findings.last_line())  # noqa: T201  the line that scripts read
    return 0 if findings.is_clean else 1


def _say_failed(console: Console, why: str) -> None:
    console.print("[bold red]The demo failed.[/]")
    console.print(why, markup=False, highlight=False, soft_wrap=True)


def _options() -> Options:
    parser = argparse.ArgumentParser(
        prog="mailflow demo", description=(__doc__ or "").split("\n\n")[2]
    )
    parser.add_argument("--once", action="store_true", help="end when all mail is delivered")
    parser.add_argument(
        "--database",
        default="",
        help="postgresql://…, instead of the embedded one",
    )
    parser.add_argument("--home", type=Path, default=Path(".rolekit/demo"))
    parser.add_argument("--copies", type=int, default=2000, help="copies to send, about")
    parser.add_argument("--people", type=int, default=300, help="mailboxes to send to")
    parser.add_argument("--front", metavar="URL", help="of a mailflow that runs elsewhere")
    parser.add_argument("--smtp", metavar="HOST:PORT", help="of the same one")
    given = parser.parse_args()
    if not given.database:
        given.database = config.load(os.environ).database
    return Options(
        target=_target(parser, given),
        once=given.once,
        database=given.database,
        home=given.home.resolve(),
        copies=given.copies,
        people=given.people,
    )


def _target(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Target | None:
    """Read where a mailflow runs elsewhere; None: the demo starts one."""
    if not given.front and not given.smtp:
        return None
    host, _, port = (given.smtp or "").rpartition(":")
    if not given.front or not host or not port.isdecimal():
        parser.error(
            "a mailflow elsewhere takes both --front http://host:port and --smtp host:port"
        )
    if not given.database:
        parser.error(
            "what became of the mail is read in its database: --database postgresql://…"
        )
    return Target(front=given.front.rstrip("/"), smtp_host=host, smtp_port=int(port))


async def _demo(options: Options, console: Console) -> checker.Findings:
    task = asyncio.current_task()
    if task is not None:  # SIGTERM ends the demo as Ctrl-C does: the fleet is stopped first
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    mails = make_load(
        all_samples(), copies=options.copies, people=options.people, run=secrets.token_hex(4)
    )
    if options.target is not None:
        return await _demo_elsewhere(options.database, options.target, mails, console)
    async with _database(options) as url:
        ports = fleet.addresses() if options.once else fleet.addresses(http=8025, smtp=2525)
        home = fleet.Home(folder=options.home, database=options.database, settings=ports)
        console.print("Starting mailflow …")
        if spamcheck.spam_check() is spamcheck.Unchecked:
            console.print(f"[yellow]{spamcheck.NO_PERL}[/]", soft_wrap=True)
        begun = time.monotonic()
        async with fleet.running(home) as ready, _connected(url) as connection:
            count = sum(role.instances for role in ready.view.roles)
            took_s = time.monotonic() - begun
            console.print(
                f"{count} instances of {len(ready.view.roles)} roles ready in {took_s:.1f} s"
            )
            findings, followed = await _send_and_check(ready.target, connection, mails, console)
            _print_report(followed, console)
            _print_problems(findings, console)
            if not options.once:
                await _stay(ready, findings, followed, console)
    return findings


async def _demo_elsewhere(
    database: str, target: Target, mails: Sequence[Mail], console: Console
) -> checker.Findings:
    console.print(f"Sending to {target.front} and {target.smtp_host}:{target.smtp_port} …")
    async with _connected(database) as connection:
        findings, followed = await _send_and_check(target, connection, mails, console)
    _print_report(followed, console)
    _print_problems(findings, console)
    return findings


async def _send_and_check(
    target: Target,
    connection: asyncpg.Connection[asyncpg.Record],
    mails: Sequence[Mail],
    console: Console,
) -> tuple[checker.Findings, Followed]:
    copies = sum(len(mail.recipients) for mail in mails)
    biggest = max(mails, key=lambda mail: len(mail.recipients))
    followed = Followed()
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        accepted = bars.add_task("mails accepted", total=len(mails))
        closed = bars.add_task("copies closed", total=copies)
        async with (
            asyncio.TaskGroup() as tasks,
            Sender(target, patience_s=PATIENCE_S) as sender,
        ):

            def on_sent(mail: Mail, mail_id: str) -> None:
                bars.advance(accepted)
                if mail is biggest:
                    followed.mail_id = mail_id
                    tasks.create_task(_follow(target.front, followed))

            sent = await sender.send_all(mails, on_sent=on_sent)
            await wait_until_closed(
                connection, sent, on_count=lambda count: bars.update(closed, completed=count)
            )
    return await checker.check(connection, sent), followed


async def wait_until_closed(
    connection: asyncpg.Connection[asyncpg.Record],
    sent: Sequence[checker.Expected],
    *,
    stalled_s: float = STALLED_S,
    on_count: Callable[[int], None] = lambda count: None,
) -> bool:
    """Wait until each copy has its line in a report; return False when nothing moves any more.

    Args:
        connection: To the app's database.
        sent: What `Sender.send_all` returned.
        stalled_s: Seconds without any new line that end the wait.
        on_count: Called with the number of lines each time it was counted.
    """
    copies = sum(len(mail.recipients) for mail in sent)
    last, since = -1, time.monotonic()
    while True:
        count = await checker.count_closed(connection, sent)
        on_count(count)
        if count >= copies:
            return True
        if count != last:
            last, since = count, time.monotonic()
        elif time.monotonic() - since > stalled_s:
            return False
        await asyncio.sleep(0.25)


async def _follow(front: str, followed: Followed) -> None:
    """Read the live report as the page does; connect again where the stream ended early."""
    cursor = ""
    give_up = time.monotonic() + 2 * STALLED_S
    async with httpx.AsyncClient(base_url=front, timeout=STALLED_S) as http:
        while time.monotonic() < give_up:
            headers = {"Last-Event-ID": cursor} if cursor else {}
            with contextlib.suppress(httpx.TransportError):
                path = f"/mail/{followed.mail_id}/live"
                async with http.stream("GET", path, headers=headers) as answer:
                    event = ""
                    async for line in answer.aiter_lines():
                        name, _, value = line.partition(": ")
                        if name == "event":
                            event = value
                        elif name == "id":
                            cursor = value
                        elif name == "data" and event == "Progress":
                            followed.lines += msgspec.json.decode(value, type=_Progress).lines
                        elif name == "data" and event == "Report":
                            return
            await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def _database(options: Options) -> AsyncGenerator[str]:
    """Give the URL to check with; for the embedded server, be one more of its users."""
    if options.database:
        yield options.database
        return
    options.home.mkdir(parents=True, exist_ok=True)
    async with embedded.server(options.home) as url:
        yield url


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def _print_report(followed: Followed, console: Console) -> None:
    table = Table(
        title=f"Report of mail {followed.mail_id}, as it closed", title_justify="left"
    )
    for name, justify in (
        ("#", "right"),
        ("recipient", "left"),
        ("outcome", "left"),
        ("", "left"),
    ):
        table.add_column(name, justify="right" if justify == "right" else "left")
    bad = [line for line in followed.lines[_SHOWN:-3] if line.outcome in {"bounced", "lost"}]
    shown = [
        *followed.lines[:_SHOWN],
        *bad[:5],
        *followed.lines[max(_SHOWN, len(followed.lines) - 3) :],
    ]
    last = -1
    for line in shown:
        if line.number != last + 1:
            table.add_row("…", f"{line.number - last - 1} more", "", "")
        style = _STYLES.get(line.outcome, "")
        outcome = f"[{style}]{line.outcome}[/]" if style else line.outcome
        table.add_row(str(line.number + 1), line.rcpt, outcome, line.detail)
        last = line.number
    console.print(table)


def _print_problems(findings: checker.Findings, console: Console) -> None:
    for problem in findings.problems[: checker.SHOWN]:
        console.print(f"[red]{problem}[/]", highlight=False)
    if len(findings.problems) > checker.SHOWN:
        console.print(f"… and {len(findings.problems) - checker.SHOWN} more")


async def _stay(
    ready: fleet.Fleet, findings: checker.Findings, followed: Followed, console: Console
) -> None:
    console.print(findings.last_line(), highlight=False)
    target = ready.target
    console.print(f"\nPages    [bold]{target.front}/[/]")
    console.print(f"Report   [bold]{target.front}/mail/{followed.mail_id}[/]")
    console.print(f"SMTP     [bold]{target.smtp_host}:{target.smtp_port}[/]")
    console.print("Ctrl-C stops it.")
    await ready.process.wait()


if __name__ == "__main__":
    sys.exit(main())
