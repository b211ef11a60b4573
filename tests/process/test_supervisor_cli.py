"""`ps`, `scale` and `stop` against a supervisor that runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rolekit.cli.main import run
from tests.process.supervised import Supervised, eventually

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_ps_shows_each_role_and_where_it_listens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        code = run(["ps", "--set", f"home={tmp_path}"])

        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        address = fleet.role("Front").address
    assert code == 0
    assert lines[0][:3] == ["ROLE", "INSTANCES", "READY"]
    assert lines[1][:3] == ["Steady", "2/2", "2"]
    assert lines[2][-1] == address


def test_scale_is_said_and_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        code = run(["scale", "Steady=+1", "--json", "--set", f"home={tmp_path}"])

        assert json.loads(capsys.readouterr().out) == [{"role": "Steady", "instances": 3}]
        eventually(lambda: fleet.role("Steady").ready == 3)
    assert code == 0


def test_ps_says_why_a_role_has_as_many_as_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        before = run(["ps", "--why", "--set", f"home={tmp_path}"])
        nothing = capsys.readouterr().out

        run(["scale", "Steady=5", "--set", f"home={tmp_path}"])
        capsys.readouterr()
        after = run(["ps", "--why", "--set", f"home={tmp_path}"])
        told = capsys.readouterr().out.splitlines()

    assert (before, after) == (0, 0)
    assert "Nothing was done with any role." in nothing
    assert told[-2] == "Steady"
    assert told[-1].endswith("  2 \u2192 5 by hand")


def test_a_count_that_cannot_be_is_2_with_the_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        codes = [
            run(["scale", f"Steady={count}", "--set", f"home={tmp_path}"])
            for count in ("six", "6", "-3")
        ]

    said = capsys.readouterr().err
    assert codes == [2, 2, 2]
    assert "Steady cannot have 'six' instances; a number from 0 to 5 is expected." in said
    assert "Steady may have 0 to 5 instances, not 6." in said
    assert "Steady may have 0 to 5 instances, not -1." in said


def test_a_misspelt_role_is_2_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        code = run(["scale", "Stedy=1", "--set", f"home={tmp_path}"])

    assert code == 2
    assert "Did you mean Steady?" in capsys.readouterr().err


def test_stop_returns_when_it_has_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        code = run(["stop", "--app", "steady", "--set", f"home={tmp_path}"])

        assert fleet.wait(2) == 0
    assert code == 0
    assert "steady has stopped" in capsys.readouterr().out


def test_two_apps_in_one_home_have_to_be_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as one, Supervised("busy", tmp_path) as other:
        one.wait_for_line("steady is up")
        other.wait_for_line("busy is up")

        unnamed = run(["ps", "--set", f"home={tmp_path}"])
        printed = capsys.readouterr().err
        named = run(["ps", "--app", "busy", "--set", f"home={tmp_path}"])
        misspelt = run(["ps", "--app", "stead", "--set", f"home={tmp_path}"])

    assert (unnamed, named, misspelt) == (2, 0, 2)
    assert "Several apps run here: busy, steady." in printed
    assert "Did you mean steady?" in capsys.readouterr().err
