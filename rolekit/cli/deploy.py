"""`rolekit deploy`: files for who keeps an app running, made from the app and its settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rolekit.cli.console import out
from rolekit.cli.options import (
    AppArgument,
    AppOption,
    ConfigOption,
    SetOption,
    described,
    settings,
)
from rolekit.errors import ConfigError

deploy = typer.Typer(help="Write files for who keeps an app running.", no_args_is_help=True)

_START_S = 300
_WATCHDOG_S = 30
_MORE_S = 40
"""To stop takes longer than `grace_s`: guests and database connections are closed besides."""

_User = Annotated[
    str, typer.Option("--user", metavar="NAME", help="Who runs it [the name of the app].")
]
_Folder = Annotated[
    str, typer.Option("--folder", metavar="DIR", help="Where the app lies [this folder].")
]
_Program = Annotated[
    str,
    typer.Option("--program", metavar="FILE", help="rolekit there [the one that runs now]."),
]


@deploy.command()
def systemd(  # noqa: PLR0913 - each is an option of the command
    argument: AppArgument = "",
    *,
    user: _User = "",
    folder: _Folder = "",
    program: _Program = "",
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
) -> None:
    """Print a unit that runs `rolekit up` as a service of systemd."""
    config = settings(argument or app, sets, config_file)
    found = described(config)
    place = folder or str(Path.cwd())
    command = program or str(Path(sys.executable).with_name("rolekit"))
    for option, path in (("--folder", place), ("--program", command)):
        if not path.startswith("/"):
            raise ConfigError(
                f"{option} is {path!r}; systemd wants a path from the root.",
                fix=f"Write it whole: {option} {Path(path).absolute()}.",
            )
    words = [command, "up", "--app", config.app]
    words += ["--config", str(Path(config_file).absolute())] if config_file else []
    name = found.app.lower()
    out(
        f"""\
[Unit]
Description={_literal(found.app)}
Wants=network-online.target
After=network-online.target postgresql.service

[Service]
Type=notify
ExecStart={" ".join(map(_word, words))}
WorkingDirectory={_literal(place)}
User={_literal(user or name)}
EnvironmentFile=-/etc/{name}/environment
Environment=ROLEKIT_HOME=/var/lib/{name}
StateDirectory={name}
KillMode=mixed
TimeoutStartSec={_START_S}
TimeoutStopSec={config.grace_s + _MORE_S:g}
WatchdogSec={_WATCHDOG_S}
Restart=on-failure

[Install]
WantedBy=multi-user.target"""
    )


def _literal(text: str) -> str:
    """Write what systemd is not to expand.

    Raises:
        ConfigError: A line break is in it, which no unit can have.
    """
    if not text.isprintable():
        raise ConfigError(
            f"{text!r} has a character that a unit of systemd cannot have.",
            fix="Use letters, digits, spaces and punctuation.",
        )
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """Write one word of a command.

    Source: systemd.service(5), "Command lines"; systemd.syntax(7), "Quoting".
    """
    plain = _literal(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{plain}"' if set(plain) & set(" \t'\"\\;") else plain
