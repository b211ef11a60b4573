"""`audit`: who changed what of a running app."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.console import out, out_json, visible
from rolekit.cli.ground import database_of
from rolekit.cli.options import (
    AppOption,
    ConfigOption,
    JsonOption,
    SetOption,
    settings,
    target,
)
from rolekit.cli.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.config import Config
    from rolekit.store.postgres.audit import Act

_WAIT_S = 10
_COLUMNS = tuple((name, False) for name in ("AT", "WHO", "ACT", "WHAT", "OUTCOME"))


def audit(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many of the newest.")] = 50,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show who changed something, on the dashboard or by `dead`, and what came of it."""
    config = settings(app, sets, config_file)
    target(config)
    acts = asyncio.run(_newest(config, limit))
    if as_json:
        out_json(acts)
    elif not acts:
        out("Nobody has changed anything.")
    else:
        table(_COLUMNS, [_row(one) for one in acts])


async def _newest(config: Config, limit: int) -> Sequence[Act]:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    async with database_of(config, _WAIT_S) as there:
        return await wiring.acts(there, limit)


def _row(act: Act) -> list[str]:
    at = dt.datetime.fromtimestamp(act.at).astimezone()
    cells = (f"{at:%Y-%m-%d %H:%M:%S}", act.who, act.act, act.what, act.outcome)
    return [visible(cell) for cell in cells]
