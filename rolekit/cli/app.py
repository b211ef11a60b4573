"""`check`, `graph`, `config`, `migrate`: look at an app and its settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from rolekit.cli.console import FAILED, out, out_json
from rolekit.cli.ground import database_of
from rolekit.cli.mermaid import draw
from rolekit.cli.options import (
    AppArgument,
    AppOption,
    ConfigOption,
    JsonOption,
    SetOption,
    WaitOption,
    described,
    loaded,
    settings,
)
from rolekit.cli.tables import table
from rolekit.config import Config, redact
from rolekit.supervisor.wire import AppBroken

if TYPE_CHECKING:
    from rolekit.supervisor.wire import Described


def check(
    argument: AppArgument = "",
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Run all start-up checks of an app; needs no server."""
    config = settings(argument or app, sets, config_file)
    try:
        found = described(config)
    except AppBroken as error:
        if not as_json:
            raise
        out_json({"app": error.app, "problems": error.problems})
        raise typer.Exit(FAILED) from None
    if config.handlers:
        from rolekit.wiring.parts import settled  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

        settled(loaded(config).plan(), config)
    if as_json:
        out_json({"app": found.app, "problems": []})
        return
    roles = _count(len(found.roles), "role")
    handlers = _count(sum(len(role.handlers) for role in found.roles), "handler")
    out(f"{found.app}: {roles}, {handlers}, no problems")


def graph(
    argument: AppArgument = "",
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
) -> None:
    """Print how messages flow through an app, as a Mermaid drawing."""
    out(draw(loaded(settings(argument or app, sets, config_file)).plan()))


def config(
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show each setting with its value and where it came from; secrets are hidden."""
    rows = settings(app, sets, config_file).rows()
    if as_json:
        out_json([dict(zip(("name", "value", "source"), row, strict=True)) for row in rows])
    else:
        table((("NAME", False), ("VALUE", False), ("SOURCE", False)), rows)


def migrate(
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    wait_s: WaitOption = 10,
) -> None:
    """Bring the app's tables in the database up to date, and make its queues."""
    found = settings(app, sets, config_file)
    there = asyncio.run(_migrate(found, described(found), wait_s))
    out(f"The schema in {redact(there.database)} is up to date.")
    if there.broker and there.broker != there.database:
        out(f"The queues on {redact(there.broker)} are there.")


async def _migrate(config: Config, found: Described, wait_s: float) -> Config:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    async with database_of(config, wait_s) as there:
        await wiring.migrate(
            found.app,
            there.database,
            there.broker,
            found.queues,
            found.sources,
            partitions=found.partitions,
        )
        return there


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
