"""`rolekit logs`, and that printing makes no instance wait for its supervisor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rolekit.cli.main import run
from tests.patience import patient
from tests.process.supervised import ROOT, Supervised, eventually
from tests.process.test_supervisor import connect

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_are_shown_by_instance_and_those_of_the_supervisor_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--set", f"home={tmp_path}"]
    with Supervised("loud", tmp_path) as fleet:
        fleet.wait_for_line("loud is up")
        connect(fleet.role("Loud").address)
        fleet.wait_for_line("shout 299")  # on the supervisor's standard error as well

        code = run(["logs", "Loud/0", "--lines", "2", *home])
        plain = capsys.readouterr().out
        run(["logs", "Loud", "--message", "shout 7 ", "--json", *home])
        chosen = json.loads(capsys.readouterr().out)
        run(["scale", "Loud=2", *home])
        capsys.readouterr()
        run(["logs", "(supervisor)", *home])
        own = capsys.readouterr().out
        wrong = run(["logs", "Lod", *home])
        nobody = run(["logs", "Loud/77", *home])

    assert code == 0
    assert [line.split(" ")[1] for line in plain.splitlines()] == ["298", "299"]
    assert (chosen["role"], chosen["instance"]) == ("Loud", "Loud/0")
    assert any(json.loads(line)["event"] == "scaled" for line in own.splitlines())
    assert (wrong, nobody) == (2, 2)
    said = capsys.readouterr().err
    assert "Did you mean Loud?" in said
    assert "There is no instance Loud/77, nor a line of one that was." in said


def test_following_ends_with_the_app(tmp_path: Path) -> None:
    with Supervised("loud", tmp_path) as fleet:
        fleet.wait_for_line("loud is up")
        address = fleet.role("Loud").address
        command = [sys.executable, "-m", "rolekit", "logs", "-f", "--set", f"home={tmp_path}"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as logs:
            assert logs.stdout is not None
            connect(address)
            seen = next(line for line in logs.stdout if "shout 299" in line)
            fleet.interrupt()
            rest = logs.stdout.read()
            code = logs.wait(patient(10))

    assert seen
    assert "Loud stops" in rest
    assert code == 0


@pytest.mark.timeout(60)
def test_an_instance_prints_on_while_its_supervisor_stands_still(tmp_path: Path) -> None:
    with Supervised("loud", tmp_path) as fleet:
        fleet.wait_for_line("loud is up")
        address = fleet.role("Loud").address

        os.kill(fleet.process.pid, signal.SIGSTOP)
        try:
            first, second = connect(address), connect(address)  # 300 kB each, into 64
        finally:
            os.kill(fleet.process.pid, signal.SIGCONT)
        # It says so with what it prints next, once there is room in the pipe again.
        eventually(
            lambda: connect(address) == first and "lines were lost here" in fleet.output,
            within_s=30,
        )

        assert first == second
        assert fleet.role("Loud").places[0].restarts == 0
