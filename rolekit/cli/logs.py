"""`logs`: what the instances of a running app print."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from rolekit.cli.client import find
from rolekit.cli.console import out_ready, visible
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, settings
from rolekit.observe.logs import prettier
from rolekit.supervisor.control_logs import LogLine, LogsOrder

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME_WIDTH = 16


def logs(  # noqa: PLR0913 - each is an option of the command
    of: Annotated[
        str,
        typer.Argument(
            metavar="[ROLE or ROLE/N]", help="Of these instances; all unless given."
        ),
    ] = "",
    *,
    message: Annotated[
        str, typer.Option("--message", metavar="ID", help="Lines that name this message.")
    ] = "",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="Of those that are kept, the last.")
    ] = 100,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what the instances of a running app print."""
    control, _ = find(settings(app, sets, config_file))
    role, slash, _number = of.partition("/")
    order = LogsOrder(
        role=role,
        instance=of if slash else "",
        message=message,
        lines=lines,
        follow=follow,
    )
    shown = _as_json if as_json else _for_people() if sys.stdout.isatty() else _as_it_is
    with closing(control.follow("/logs", order, LogLine, method="GET")) as told:
        for line in told:
            out_ready(shown(line))


def _as_json(line: LogLine) -> str:
    return msgspec.json.encode(line).decode()


def _as_it_is(line: LogLine) -> str:
    return visible(line.text)


def _for_people() -> Callable[[LogLine], str]:
    pretty = prettier(colors=True)

    def show(line: LogLine) -> str:
        raw = line.text.encode()
        rendered = pretty(raw)
        text = visible(line.text) if rendered is raw else rendered.decode()
        return f"{visible(line.instance):<{_NAME_WIDTH}} {text}"

    return show
