"""A command imports what it needs, and not what the others do."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from rolekit.cli.main import COMMANDS, line_of, overview

RUN = """
import sys
from rolekit.cli.main import run
code = run(sys.argv[1:])
print(*sys.modules)
sys.exit(code)
"""

DRIVERS = {"aio_pika", "asyncpg", "opentelemetry.sdk", "starlette", "structlog", "uvicorn"}
"""What a fleet and a dashboard need, and who asks them does not."""


def asked(arguments: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run a command line in a process of its own; return how it ended, and what it loaded."""
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *arguments.split()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ended, set(ended.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("--help", 0),
        ("nonsense", 2),
        ("ps", 2),
        ("-- ps", 2),
        ("scale Clerk=2", 2),
        ("why X", 2),
    ],
)
@pytest.mark.usefixtures("place")
def test_what_only_asks_loads_no_drivers(arguments: str, code: int) -> None:
    ended, loaded = asked(arguments)

    assert ended.returncode == code, ended.stderr
    assert "rolekit.cli.main" in loaded
    assert not loaded & DRIVERS


def test_a_list_of_commands_loads_none_of_them() -> None:
    _, loaded = asked("--help")

    files = {f"rolekit.cli.{file}" for file, _ in COMMANDS.values()}
    assert not loaded & files


def test_help_about_the_dashboard_loads_nothing_that_serves_it() -> None:
    ended, loaded = asked("dashboard --help")

    assert ended.returncode == 0
    assert "rolekit.cli.dashboard" in loaded
    assert not loaded & {"asyncpg", "rolekit.dashboard.pages", "starlette", "uvicorn"}


@pytest.mark.parametrize("command", ["restart", "ps", "scale"])
@pytest.mark.usefixtures("place")
def test_what_talks_to_a_fleet_loads_neither_roles_nor_supervisor(command: str) -> None:
    ended, loaded = asked(f"{command} Clerk=2" if command == "scale" else command)

    assert ended.returncode == 2
    assert "No app is running here" in ended.stderr
    assert "rolekit.cli.client" in loaded
    assert not loaded & {"rolekit.roles", "rolekit.guest", "rolekit.supervisor.rolling"}


def test_the_overview_says_of_each_command_what_its_help_does() -> None:
    all_of_them, short = get_command(line_of(COMMANDS)), get_command(overview())

    assert isinstance(all_of_them, TyperGroup)
    assert isinstance(short, TyperGroup)
    assert list(short.commands) == list(all_of_them.commands)
    for name, command in all_of_them.commands.items():
        assert (command.help or "").splitlines()[0] == short.commands[name].help


def test_help_shows_all_commands_in_their_order() -> None:
    cli = line_of(COMMANDS)

    names = [one.name for one in cli.registered_commands]
    groups = [one.name for one in cli.registered_groups]
    assert [*names, *groups] == list(COMMANDS)


def test_a_supervisor_loads_neither_roles_nor_guests_nor_what_instances_run() -> None:
    asking = (
        "import sys, rolekit.cli.up;"
        "from rolekit.wiring import check_pooler, migrate, open_host;"
        "from rolekit.supervisor.launchers import Launchers; Launchers('app');"
        "print(*sys.modules)"
    )

    said = subprocess.check_output([sys.executable, "-c", asking], text=True)

    loaded = set(said.split())
    assert "rolekit.wiring.hosting" in loaded
    assert not loaded & {"aio_pika", "rolekit.flow", "rolekit.guest", "rolekit.roles"}
