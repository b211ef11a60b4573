"""`restart` and `reload`: new code and new settings for what runs."""

from __future__ import annotations

from typing import Annotated

import typer

from rolekit.cli.client import find
from rolekit.cli.console import out, out_json, say
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, settings
from rolekit.errors import ConfigError, RolekitError
from rolekit.model.recycling import DOMAINS
from rolekit.supervisor.control import Nothing, Reloaded
from rolekit.supervisor.control_restart import RestartNews, RestartOrder
from rolekit.supervisor.wire import AppBroken


def restart(  # noqa: PLR0913 - typer makes an option of each
    role: Annotated[str, typer.Argument(metavar="[ROLE]", help="Only this role.")] = "",
    *,
    to: Annotated[
        str, typer.Option("--to", metavar="MODULE:NAME", help="The app to run from now on.")
    ] = "",
    domains: Annotated[
        int,
        typer.Option("--domains", metavar="N", min=1, help="In so many parts, one by one."),
    ] = DOMAINS,
    ready_s: Annotated[
        float | None,
        typer.Option(
            "--ready",
            metavar="SECONDS",
            min=0.1,
            help="For a new one to be ready; as start_s of its role says.",
        ),
    ] = None,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Replace running instances by new ones, which run the code as it is now."""
    control, status = find(settings(app, sets, config_file))
    order = RestartOrder(role=role, to=to, domains=domains, ready_s=ready_s)
    last = RestartNews()
    try:
        for last in control.follow("/restart", order, RestartNews):
            if last.line and not as_json:
                out(last.line)
            elif as_json:
                out_json(last)
    except KeyboardInterrupt:
        say("The restart goes on without you; `rolekit ps` shows it.")
        raise
    if last.is_done:
        return
    if last.problems:
        say("Nothing was restarted.")
        if last.is_usage:
            raise ConfigError(last.problems[0].what, fix=last.problems[0].fix)
        raise AppBroken(to or status.target, last.problems, traceback=last.traceback)
    raise RolekitError(
        "The restart was aborted; what ran before runs again.",
        fix="The lines above say why, and the log of the app says more.",
    )


def reload(
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Have a running app read its settings again."""
    control, _ = find(settings(app, sets, config_file))
    reloaded = control.order("/reload", Nothing(), Reloaded)
    if as_json:
        out_json(reloaded)
        return
    for line in reloaded.done:
        out(line)
