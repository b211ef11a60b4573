"""Options that many commands share, and what becomes of them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit import config
from rolekit.cli.console import say
from rolekit.errors import ConfigError
from rolekit.supervisor.wire import AppBroken, Broken, Described

if TYPE_CHECKING:
    from rolekit.roles.app import App

AppOption = Annotated[
    str, typer.Option("--app", metavar="MODULE:NAME", help="The app, if settings do not say.")
]
AppArgument = Annotated[
    str, typer.Argument(metavar="[MODULE:NAME]", help="The app, if settings do not say.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting; goes before all others."),
]
ConfigOption = Annotated[
    str, typer.Option("--config", metavar="FILE", help="Settings file [rolekit.toml].")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

WaitOption = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="For the database to answer.")
]


def settings(
    app: str = "", sets: list[str] | None = None, config_file: str = ""
) -> config.Config:
    """Read the settings of this run, and warn about names nobody knows."""
    environ = dict(os.environ)
    if config_file:
        environ["ROLEKIT_CONFIG"] = config_file
    found = config.load(environ, settings=sets or ())
    if found.sources.get("broker") != "$ROLEKIT_BROKER_FILE":
        os.environ.pop("ROLEKIT_BROKER_FILE", None)  # what --set replaced is not followed
    for warning in found.warnings:
        say(f"warning: {warning}")
    return replace(found, app=app) if app else found


def target(found: config.Config) -> str:
    """Return which app is meant.

    Raises:
        ConfigError: Nothing says so.
    """
    if not found.app:
        raise ConfigError(
            "No app is named.",
            fix='Name it: --app module:name, ROLEKIT_APP, or app = "module:name" in '
            "rolekit.toml.",
        )
    return found.app


def described(found: config.Config) -> Described:
    """Import the app into this process and check it.

    Raises:
        ConfigError: Its name leads nowhere.
        AppBroken: It cannot start.
    """
    from rolekit.supervisor.describe import examine  # noqa: PLC0415 - as in `loaded`

    report = examine(target(found))
    if isinstance(report, Broken):
        if report.is_usage:
            raise ConfigError(report.problem.what, fix=report.problem.fix)
        raise AppBroken(found.app, (report.problem,), traceback=report.traceback)
    if report.problems:
        raise AppBroken(report.app, report.problems)
    return report


def loaded(found: config.Config) -> App:
    """Import the app into this process, check it, and return it.

    Raises:
        ConfigError: Its name leads nowhere.
        AppBroken: It cannot start.
    """
    # What talks to a fleet that runs should not wait for these.
    from rolekit.roles.app import App  # noqa: PLC0415
    from rolekit.supervisor.describe import load  # noqa: PLC0415

    described(found)
    app: object = load(found.app)
    if not isinstance(app, App):
        raise ConfigError(
            f"{found.app} is {type(app).__name__} and not an App.",
            fix='Name the object made by App("…", roles=[…]).',
        )
    return app
