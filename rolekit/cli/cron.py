"""`cron`: when handlers that are called by time are due."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.console import out, out_json
from rolekit.cli.ground import database_of
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, loaded, settings
from rolekit.cli.tables import table
from rolekit.clock import as_datetime

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from rolekit.config import Config
    from rolekit.model.timing import Timing
    from rolekit.store.base import TimerRow

_WAIT_S = 10
_NEVER = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class _Line:
    """One handler that is called by time."""

    handler: str
    timing: Timing
    row: TimerRow | None
    upcoming_ms: Sequence[int]


def cron(
    *,
    count: Annotated[
        int, typer.Option("--next", min=1, max=1000, help="So many due times of each.")
    ] = 1,
    is_offline: Annotated[
        bool, typer.Option("--offline", help="By the code alone; needs no database.")
    ] = False,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show handlers that are called by time: when they are due, and when they were."""
    config = settings(app, sets, config_file)
    plan = loaded(config).plan()
    timed = {one.name: one.timing for one in plan.timed if one.timing is not None}
    rows: Mapping[str, TimerRow] = {}
    if timed and not is_offline:
        rows = asyncio.run(_rows(config, plan.name))
    now_ms = time.time_ns() // 1_000_000
    lines = [_line(name, one, rows.get(name), now_ms, count) for name, one in timed.items()]
    if as_json:
        out_json([_as_data(line) for line in lines])
    elif not lines:
        out(f"{plan.name} has no handlers with @cron or @every.")
    else:
        headings = ("HANDLER", "SCHEDULE", "NEXT", "LAST", "MISSED")
        table([(one, False) for one in headings], [_cells(line) for line in lines])


async def _rows(config: Config, app_name: str) -> dict[str, TimerRow]:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    async with database_of(config, _WAIT_S) as there:
        return {row.handler: row for row in await wiring.read_timers(app_name, there.database)}


def _line(name: str, timing: Timing, row: TimerRow | None, now_ms: int, count: int) -> _Line:
    """Count from the row, where it is of this schedule: that is what relays go by."""
    if row is not None and row.schedule != timing.text:
        row = None
    if row is None:
        return _Line(name, timing, None, timing.upcoming(now_ms, count))
    after = timing.upcoming(row.next_ms, count - 1)
    return _Line(name, timing, row, [row.next_ms, *after])


def _cells(line: _Line) -> tuple[str, ...]:
    fired_ms = None if line.row is None else line.row.fired_ms
    return (
        line.handler,
        line.timing.text,
        ", ".join(_shown(ms, line.timing.zone) for ms in line.upcoming_ms),
        _NEVER if fired_ms is None else _shown(fired_ms, line.timing.zone),
        line.timing.missed,
    )


def _as_data(line: _Line) -> dict[str, object]:
    fired_ms = None if line.row is None else line.row.fired_ms
    return {
        "handler": line.handler,
        "schedule": line.timing.text,
        "next": [_shown(ms, line.timing.zone) for ms in line.upcoming_ms],
        "last": None if fired_ms is None else _shown(fired_ms, line.timing.zone),
        "missed": line.timing.missed,
        "planned": line.row is not None,
    }


def _shown(ms: int, zone: dt.tzinfo) -> str:
    return as_datetime(ms).astimezone(zone).isoformat(timespec="seconds")
