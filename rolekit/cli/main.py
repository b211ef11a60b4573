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
    "up": ("up", "Start the roles of an app on this host, and look after them until stopped."),
    "run": ("up", "Run one instance of one role in the foreground, as containers do."),
    "check": ("app", "Run all start-up checks of an app; needs no server."),
    "ps": ("ps", "Show the roles of a running app: instances, queues, rates, dead letters."),
    "scale": ("fleet", "Change how many instances roles have."),
    "drain": ("fleet", "Let roles finish what they have in hand, and take no more."),
    "restart": (
        "restart",
        "Replace running instances by new ones, which run the code as it is now.",
    ),
    "reload": ("restart", "Have a running app read its settings again."),
    "stop": ("fleet", "Stop a running app: it finishes what is in hand, then ends."),
    "logs": ("logs", "Show what the instances of a running app print."),
    "top": ("top", "Show live what roles do and use: queues, rates, CPU, memory, restarts."),
    "dashboard": ("dashboard", "Show a running app in a browser."),
    "audit": (
        "audit",
        "Show who changed something, on the dashboard or by `dead`, and what came of it.",
    ),
    "cron": (
        "cron",
        "Show handlers that are called by time: when they are due, and when they were.",
    ),
    "config": (
        "app",
        "Show each setting with its value and where it came from; secrets are hidden.",
    ),
    "graph": ("app", "Print how messages flow through an app, as a Mermaid drawing."),
    "schema": (
        "schema",
        "Describe an app to other programs: its queues as AsyncAPI, or its routes as OpenAPI.",
    ),
    "migrate": (
        "app",
        "Bring the app's tables in the database up to date, and make its queues.",
    ),
    "replay": (
        "replay",
        "Send again what the broker confirmed since a time, and perhaps lost.",
    ),
    "send": ("send", "Send one message; return when it is durable."),
    "holes": (
        "holes",
        "Show sequences in flight: which position holds each up, since when, and why.",
    ),
    "why": ("traces", "Say what a message waited for, and where its time went."),
    "trace": ("traces", "Show the trace of a message as a tree."),
    "load": (
        "load",
        "Put an app under load at a rate of its own (an open loop), and judge how it stood it.",
    ),
    "dead": ("dead", "Look at dead letters; replay or drop them."),
    "deploy": ("deploy", "Write files for who keeps an app running."),
    "guest": ("guest", "Record what a guest answers, and see that another does the same."),
    "topology": (
        "topology",
        "Compare queues on RabbitMQ with what an app wants; migrate them.",
    ),
}
"""In which file each is, as what bears its name there, and what it does: the first line of its
help, for who only asks which there are. In the order of `rolekit --help`."""


def line_of(names: Iterable[str]) -> typer.Typer:
    """Make a command line of these commands; what the others need is not imported.

    All of them together take 0.6 s of CPU (November 2026), next to a fleet that works.
    """
    cli = _line()
    for name in names:
        found = getattr(import_module(f"rolekit.cli.{COMMANDS[name][0]}"), name)
        if isinstance(found, typer.Typer):
            cli.add_typer(found, name=name)
        else:
            cli.command(name)(found)
    return cli


def overview() -> typer.Typer:
    """Make one that says which commands there are, and what is near to a wrong name.

    Imports none of them, so none can be called.
    """
    cli = _line()
    for name, (_, does) in COMMANDS.items():
        cli.command(name, help=does)(_nothing)
    return cli


def _line() -> typer.Typer:
    cli = typer.Typer(
        name="rolekit",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    cli.callback(help="Run and look after apps of roles.")(_nothing)
    return cli


def _nothing() -> None:
    """Come before every command; without it, a single one would be called without a name."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. What a user did wrong is said in a sentence."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["up"]:
        given = filled_in(given)
    name = next((one for one in given[:2] if one != "--"), "")  # `--` may stand before it
    cli = line_of([name]) if name in COMMANDS else overview()
    try:
        cli(args=given, prog_name="rolekit")
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
