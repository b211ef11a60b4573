"""`replay`: what was sent since a time, sent again, after a broker lost it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.console import out, out_json, say
from rolekit.cli.ground import database_of
from rolekit.cli.options import (
    AppOption,
    ConfigOption,
    JsonOption,
    SetOption,
    WaitOption,
    settings,
    target,
)
from rolekit.cli.tables import table
from rolekit.cli.times import time_ms
from rolekit.errors import RolekitError
from rolekit.store.sent import SentBetween

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.config import Config
    from rolekit.model.envelope import Packet
    from rolekit.wiring.resending import SentMessages

_CHUNK = 500
_TURN_S = 0.1


def replay(  # noqa: PLR0913 - each is an option of the command
    *,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="From then on: 2h, or a date.")
    ],
    until: Annotated[
        str, typer.Option("--until", metavar="TIME", help="From before [now].")
    ] = "",
    queue: Annotated[str, typer.Option("--queue", help="Only what went into this one.")] = "",
    rate: Annotated[
        float, typer.Option("--rate", min=0, metavar="N", help="At most so many a second.")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count them; send nothing.")
    ] = False,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    wait_s: WaitOption = 10,
    as_json: JsonOption = False,
) -> None:
    """Send again what the broker confirmed since a time, and perhaps lost.

    What had its outcome is known by the inbox, and is not handled again. Nothing is kept
    unless the setting keep_sent is on.
    """
    now = dt.datetime.now(dt.UTC)
    which = SentBetween(
        since_ms=time_ms(since, now),
        until_ms=time_ms(until, now) if until else round(now.timestamp() * 1000),
        queue=queue,
    )
    config = settings(app, sets, config_file)
    target(config)
    counts = asyncio.run(_run(config, which, rate, wait_s, sends=not dry_run))
    if not counts:
        at = dt.datetime.fromtimestamp(which.since_ms / 1000, tz=dt.UTC)
        raise RolekitError(
            f"Nothing that was sent since {at.isoformat(timespec='seconds')} is kept.",
            fix="Look whether keep_sent is on; it keeps what is sent from then on.",
        )
    _report(counts, dry_run=dry_run, as_json=as_json)


def _report(counts: Counter[str], *, dry_run: bool, as_json: bool) -> None:
    verb = "found" if dry_run else "sent"
    if as_json:
        out_json({verb: counts.total(), "queues": dict(sorted(counts.items()))})
        return
    table(
        (("QUEUE", False), ("MESSAGES", True)),
        [(q, f"{n:,}") for q, n in sorted(counts.items())],
    )
    out(f"{verb}: {counts.total()}")
    if dry_run:
        say("Nothing was sent.")


async def _run(
    config: Config, which: SentBetween, rate: float, wait_s: float, *, sends: bool
) -> Counter[str]:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    counts: Counter[str] = Counter()
    async with database_of(config, wait_s) as there, wiring.sent_messages(there) as sent:
        async for packets in sent.packets(which):
            counts.update(packet.queue for packet in packets)
            if sends:
                await _send(sent, packets, rate)
    return counts


async def _send(sent: SentMessages, packets: Sequence[Packet], rate: float) -> None:
    size = max(1, round(rate * _TURN_S)) if rate else _CHUNK
    for at in range(0, len(packets), size):
        some = packets[at : at + size]
        await sent.send(some)
        if rate:
            await asyncio.sleep(len(some) / rate)
