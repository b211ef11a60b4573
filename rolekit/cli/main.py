"""All commands together, and the one place where an error becomes an exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from rolekit.cli import app as about_app
from rolekit.cli import fleet, up
from rolekit.cli.console import report
from rolekit.cli.cron import cron
from rolekit.cli.dashboard import dashboard
from rolekit.cli.dead import dead
from rolekit.cli.deploy import deploy
from rolekit.cli.guest import guest
from rolekit.cli.holes import holes
from rolekit.cli.load import load
from rolekit.cli.logs import logs
from rolekit.cli.ps import ps
from rolekit.cli.replay import replay
from rolekit.cli.restart import reload, restart
from rolekit.cli.schema import schema
from rolekit.cli.send import send
from rolekit.cli.top import top
from rolekit.cli.topology import topology
from rolekit.cli.traces import trace, why
from rolekit.errors import RolekitError

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

cli = typer.Typer(
    name="rolekit",
    help="Run and look after apps of roles.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.command()(up.up)
cli.command()(up.run)
cli.command()(about_app.check)
cli.command()(ps)
cli.command()(fleet.scale)
cli.command()(fleet.drain)
cli.command()(restart)
cli.command()(reload)
cli.command()(fleet.stop)
cli.command()(logs)
cli.command()(top)
cli.command()(dashboard)
cli.command()(cron)
cli.command()(about_app.config)
cli.command()(about_app.graph)
cli.command()(schema)
cli.command()(about_app.migrate)
cli.command()(replay)
cli.command()(send)
cli.command()(holes)
cli.command()(why)
cli.command()(trace)
cli.command()(load)
cli.add_typer(dead, name="dead")
cli.add_typer(deploy, name="deploy")
cli.add_typer(guest, name="guest")
cli.add_typer(topology, name="topology")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. What a user did wrong is said in a sentence."""
    try:
        cli(args=list(arguments) if arguments is not None else None, prog_name="rolekit")
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
