"""`up` and `run`: start instances."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.beside import beside
from rolekit.cli.board_option import DEFAULT_BIND
from rolekit.cli.console import say
from rolekit.cli.ground import database_of, ground
from rolekit.cli.options import (
    AppArgument,
    AppOption,
    ConfigOption,
    SetOption,
    WaitOption,
    described,
    settings,
    target,
)
from rolekit.config import Config, nearest
from rolekit.errors import ConfigError
from rolekit.observe import logs
from rolekit.supervisor.init import step_aside_if_first
from rolekit.supervisor.serve import Manner, serve

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from rolekit.supervisor.host import Ground
    from rolekit.supervisor.wire import Described


def up(  # noqa: PLR0913 - each is an option of the command
    argument: AppArgument = "",
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    wait_s: WaitOption = 10,
    reloads: Annotated[
        bool, typer.Option("--reload", help="Restart when a source file below here changes.")
    ] = False,
    roles: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE", help="Only this role; more by more of these."),
    ] = None,
    dashboard: Annotated[
        str,
        typer.Option(
            "--dashboard",
            metavar="[HOST:PORT]",
            help=f"Show it in a browser; at {DEFAULT_BIND} where no address follows.",
        ),
    ] = "",
) -> None:
    """Start the roles of an app on this host, and look after them until stopped."""
    config = settings(argument or app, sets, config_file)
    target(config)
    step_aside_if_first()
    logs.set_up(config.log, config.log_format, app=config.app)

    def open_ground(found: Described) -> AbstractAsyncContextManager[Ground]:
        logs.set_up(config.log, config.log_format, app=found.app)  # its name is known now
        return ground(config, found, wait_s)

    def reread() -> Config:
        return settings(argument or app, sets, config_file)

    manner = Manner(watched=Path.cwd() if reloads else None, roles=tuple(roles or ()))
    with beside(config, dashboard, sets, config_file):
        code = asyncio.run(serve(config, open_ground, say, manner, reread))
    raise typer.Exit(code)


def run(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="Class name of the role.")],
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    wait_s: WaitOption = 10,
) -> None:
    """Run one instance of one role in the foreground, as containers do."""
    config = settings(app, sets, config_file)
    target(config)
    step_aside_if_first()
    logs.set_up(config.log, config.log_format, app=config.app, role=role)
    names = [one.name for one in described(config).roles]
    if role not in names:
        raise ConfigError(
            f"{config.app} has no role {role}.{nearest(role, names)}",
            fix=f"Its roles are {', '.join(names)}.",
        )
    raise typer.Exit(asyncio.run(_run(config, role, wait_s)))


async def _run(config: Config, role: str, wait_s: float) -> int:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    async with database_of(config, wait_s) as there:
        return await wiring.run_role(there, there.app, role)
