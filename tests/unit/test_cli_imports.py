"""A command imports what it needs, and not what the others do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rolekit.cli.main import COMMANDS, line_of

RUN = """
import sys
from rolekit.cli.main import run
code = run(sys.argv[1:])
print(*sys.modules)
sys.exit(code)
"""


@pytest.mark.parametrize("command", ["restart", "ps", "scale"])
@pytest.mark.usefixtures("place")
def test_what_talks_to_a_fleet_loads_neither_roles_nor_supervisor(command: str) -> None:
    arguments = [command, "Clerk=2"] if command == "scale" else [command]

    asked = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=False
    )

    loaded = asked.stdout.split()
    assert asked.returncode == 2
    assert "No app is running here" in asked.stderr
    assert "rolekit.cli.client" in loaded
    for heavy in ("rolekit.roles", "rolekit.guest", "rolekit.supervisor.rolling"):
        assert heavy not in loaded


def test_help_shows_all_commands_in_their_order() -> None:
    cli = line_of(COMMANDS)

    names = [one.name for one in cli.registered_commands]
    groups = [one.name for one in cli.registered_groups]
    assert [*names, *groups] == list(COMMANDS)
