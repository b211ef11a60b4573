"""All commands together, and the one place where an error becomes an exit code."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

import typer

from rolekit.cli.board_option import filled_in
from rolekit.cli.console import report
from rolekit.errors import RolekitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

COMMANDS = {
    "up": "up",
    "run": "up",
    "check": "app",
    "ps": "ps",
    "scale": "fleet",
    "drain": "fleet",
    "restart": "restart",
    "reload": "restart",
    "stop": "fleet",
    "logs": "logs",
    "top": "top",
    "dashboard": "dashboard",
    "audit": "audit",
    "cron": "cron",
    "config": "app",
    "graph": "app",
    "schema": "schema",
    "migrate": "app",
    "replay": "replay",
    "send": "send",
    "holes": "holes",
    "why": "traces",
    "trace": "traces",
    "load": "load",
    "dead": "dead",
    "deploy": "deploy",
    "guest": "guest",
    "topology": "topology",
}
"""In which file each is, as what bears its name there; in the order of `rolekit --help`."""


def line_of(names: Iterable[str]) -> typer.Typer:
    """Make a command line of these commands; what the others need is not imported.

    All of them together take 0.6 s of CPU (November 2026), next to a fleet that works.
    """
    cli = typer.Typer(
        name="rolekit",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    cli.callback(help="Run and look after apps of roles.")(_nothing)
    for name in names:
        found = getattr(import_module(f"rolekit.cli.{COMMANDS[name]}"), name)
        if isinstance(found, typer.Typer):
            cli.add_typer(found, name=name)
        else:
            cli.command(name)(found)
    return cli


def _nothing() -> None:
    """Come before every command; without it, a single one would be called without a name."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. What a user did wrong is said in a sentence."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["up"]:
        given = filled_in(given)
    names = given[:1] if given and given[0] in COMMANDS else COMMANDS
    try:
        line_of(names)(args=given, prog_name="rolekit")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except RolekitError as error:
        return report(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # `rolekit … | head`
        sys.stderr.close()
        return 0
    return 0
