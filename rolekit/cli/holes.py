"""`holes`: sequences in flight, which position holds each up, and who has it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.console import out, out_json
from rolekit.cli.ground import database_of
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, settings, target
from rolekit.cli.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.config import Config
    from rolekit.flow.holes import Line

_WAIT_S = 10
_COLUMNS = (
    ("SEQUENCE", False),
    ("GATHER", False),
    ("BLOCKED AT", False),
    ("SINCE", True),
    ("WHY", False),
)
_SPANS = ((86_400, "d"), (3600, "h"), (60, "min"))


def holes(
    *,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Those that stand still longest.")
    ] = 100,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show sequences in flight: which position holds each up, since when, and why."""
    config = settings(app, sets, config_file)
    target(config)
    lines = asyncio.run(_asked(config, limit))
    if as_json:
        out_json(lines)
    elif lines:
        table(_COLUMNS, [_row(line) for line in lines])
    else:
        out("No sequence is open.")


async def _asked(config: Config, limit: int) -> Sequence[Line]:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    async with database_of(config, _WAIT_S) as there:
        return await wiring.holes(there, limit)


def _row(line: Line) -> tuple[str, str, str, str, str]:
    name = line.source_id or line.sequence
    of = line.of if line.source_id else f"stream {line.of}"
    return (
        f"{of} {name[:4]}…{name[-2:]}",
        line.gather,
        _where(line),
        _span(line.since_s),
        line.why,
    )


def _where(line: Line) -> str:
    at = line.blocked_at or "end"
    return at if line.total is None else f"{at} of {line.total:,}"


def _span(seconds: float) -> str:
    for length, unit in _SPANS:
        if seconds >= 2 * length:  # 90 min says more than 1 h
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
