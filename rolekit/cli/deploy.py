"""`rolekit deploy`: files for who keeps an app running, made from the app and its settings."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.console import out, say
from rolekit.cli.options import (
    AppArgument,
    AppOption,
    ConfigOption,
    SetOption,
    described,
    loaded,
    settings,
)
from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rolekit.cli.deployment import Deployment
    from rolekit.config import Config

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
_To = Annotated[
    str, typer.Option("--to", metavar="FOLDER", help="Write it there [standard output].")
]
_Image = Annotated[
    str, typer.Option("--image", metavar="NAME", help="With the app in it [the app's name].")
]
_Roles = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="ROLE", help="Only this role; more by more of these."),
]
_Broker = Annotated[
    bool, typer.Option("--broker", help="It uses RabbitMQ, though no settings name one here.")
]
_Servers = Annotated[
    bool, typer.Option("--with-servers", help="PostgreSQL too, and RabbitMQ where it is used.")
]


@deploy.command()
def compose(  # noqa: PLR0913 - each is an option of the command
    argument: AppArgument = "",
    *,
    image: _Image = "",
    roles: _Roles = None,
    broker: _Broker = False,
    with_servers: _Servers = False,
    to: _To = "",
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
) -> None:
    """Print a file of Docker Compose, with a service for each role."""
    from rolekit.cli import compose as written  # noqa: PLC0415 - see `_deployment`

    config = settings(argument or app, sets, config_file)
    found = _deployment(config, image, roles, has_broker=broker, is_spread=False)
    head = written.head_of_compose(found, with_servers=with_servers)
    document = written.compose(found, with_servers=with_servers)
    _hand_out(_as_yaml(head, [document]), to, "docker-compose.yml")


@deploy.command()
def swarm(  # noqa: PLR0913 - each is an option of the command
    argument: AppArgument = "",
    *,
    image: _Image = "",
    roles: _Roles = None,
    broker: _Broker = False,
    to: _To = "",
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
) -> None:
    """Print a stack of Docker Swarm, with a service for each role."""
    from rolekit.cli import compose as written  # noqa: PLC0415 - see `_deployment`

    config = settings(argument or app, sets, config_file)
    found = _deployment(config, image, roles, has_broker=broker, is_spread=True)
    text = _as_yaml(written.head_of_swarm(found), [written.swarm(found)])
    _hand_out(text, to, f"{found.name}-stack.yml")


@deploy.command()
def kubernetes(  # noqa: PLR0913 - each is an option of the command
    argument: AppArgument = "",
    *,
    image: _Image = "",
    roles: _Roles = None,
    broker: _Broker = False,
    to: _To = "",
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
) -> None:
    """Print objects of Kubernetes: a Deployment for each role, and Services."""
    from rolekit.cli import kubernetes as written  # noqa: PLC0415 - see `_deployment`

    config = settings(argument or app, sets, config_file)
    found = _deployment(config, image, roles, has_broker=broker, is_spread=True)
    text = _as_yaml(written.head_of_kubernetes(found), written.kubernetes(found))
    _hand_out(text, to, f"{found.name}.yaml")


def _deployment(
    config: Config,
    image: str,
    roles: list[str] | None,
    *,
    has_broker: bool,
    is_spread: bool,
) -> Deployment:
    """Look at the app. What it takes is imported here: `rolekit ps` should not wait for it."""
    from rolekit.cli.deploying import Wish, deployment  # noqa: PLC0415 - see above

    found = described(config)
    for warning in config.unknown_roles(found.names):
        say(f"warning: {warning}")
    for role in found.roles:
        if role.containers:
            say(f"warning: {role.name} starts containers; in one itself, it has no engine.")
    wish = Wish(
        image=image,
        roles=tuple(roles or ()),
        has_broker=has_broker,
        is_spread=is_spread,
        stop_s=math.ceil(config.grace_s + _MORE_S),
    )
    return deployment(config, found, loaded(config), wish)


def _as_yaml(head: Iterable[str], documents: Iterable[Mapping[str, object]]) -> str:
    from rolekit.schema.yaml import as_yaml  # noqa: PLC0415 - see `_deployment`

    comment = "".join(f"{f'# {line}'.rstrip()}\n" for line in head)
    return f"{comment}\n" + "\n---\n".join(as_yaml(one) for one in documents)


def _hand_out(text: str, folder: str, name: str) -> None:
    """Print it, or write it into a folder, over nothing that is there.

    Raises:
        ConfigError: It cannot be written, or something of that name is there.
    """
    if not folder:
        out(text)
        return
    path = Path(folder) / name
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
    except FileExistsError:
        raise ConfigError(
            f"{path} is there already and is not overwritten.",
            fix="Move it away, or name another folder.",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.",
            fix="Name a folder that is there and yours.",
        ) from error
    say(f"Written to {path}.")


@deploy.command()
def systemd(  # noqa: PLR0913 - each is an option of the command
    argument: AppArgument = "",
    *,
    user: _User = "",
    folder: _Folder = "",
    program: _Program = "",
    to: _To = "",
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
    _hand_out(
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
LimitNICE=+0

[Install]
WantedBy=multi-user.target""",
        to,
        f"{name}.service",
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
