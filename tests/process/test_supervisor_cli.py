"""`ps`, `scale` and `stop` against a supervisor that runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from rolekit.cli.main import run
from rolekit.cli.ps import NONE
from tests.patience import patient
from tests.process.supervised import ROOT, Supervised, eventually

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


def test_only_the_roles_that_were_named_run_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path, "Steady") as fleet:
        fleet.wait_for_line("steady is up")

        run(["ps", "--set", f"home={tmp_path}"])
        begun = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
        code = run(["restart", "--set", f"home={tmp_path}"])
        capsys.readouterr()
        run(["ps", "--set", f"home={tmp_path}"])
        later = [line.split()[0] for line in capsys.readouterr().out.splitlines()]

    assert begun == later == ["ROLE", "Steady"]
    assert code == 0
    assert not any("Front" in line for line in fleet.lines)


def test_a_role_to_run_that_is_not_there_is_2_with_the_nearest(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path, "Steddy") as fleet:
        assert fleet.wait(8) == 2

    assert "steady has no role Steddy. Did you mean Steady?" in "".join(fleet.lines)


def test_ready_is_0_when_every_place_is_filled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        code = run(["ps", "--ready", "--set", f"home={tmp_path}"])

    assert (code, capsys.readouterr().out) == (0, "Ready.\n")


def test_a_health_check_loads_no_command_line(tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv[1:] = ['ps', '--ready']\n"
        "from rolekit.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'typer' in sys.modules)"
    )
    environ = {**os.environ, "ROLEKIT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, text=True, check=True, cwd=tmp_path, env=environ,
        )  # fmt: skip

    assert done.stdout.splitlines() == ["Ready.", "False False"]


def test_ready_is_1_while_a_role_cannot_keep_an_instance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("crashing", tmp_path, restarts=2, first_s=0.01) as fleet:
        fleet.wait_for_line("crash-looping")

        codes = [
            run(["ps", "--ready", *options, "--set", f"home={tmp_path}"])
            for options in ([], ["--json"])
        ]

    said = capsys.readouterr().out.splitlines()
    assert codes == [1, 1]
    assert said[0] == "Not ready: `rolekit ps` shows which roles are not."
    assert json.loads("".join(said[1:])) == {"ready": False}


def test_ready_is_2_where_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["ps", "--ready", "--set", f"home={tmp_path}"])

    assert code == 2
    assert "No app is running here" in capsys.readouterr().err


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


def test_a_drained_role_ends_keeps_its_number_and_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--set", f"home={tmp_path}"]
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        drained = run(["drain", "Steady", *home])
        said = capsys.readouterr().out
        role = fleet.role("Steady")
        run(["drain", "Steady", *home])  # again: it stays so
        run(["ps", *home])
        shown = capsys.readouterr().out
        undone = run(["drain", "--undo", "Steady", *home])
        eventually(lambda: fleet.role("Steady").ready == 2)
        run(["drain", "Steady", *home])
        run(["scale", "Steady=+1", *home])
        eventually(lambda: fleet.role("Steady").ready == 3)
        wrong = run(["drain", "Stedy", *home])

    assert (drained, undone, wrong) == (0, 0, 2)
    assert "`rolekit drain --undo Steady` brings back 2 instances." in said
    assert (role.state, role.running, role.instances) == ("drained", 0, 2)
    assert "0/2" in shown
    assert "Did you mean Steady?" in capsys.readouterr().err


def test_a_role_with_work_in_hand_is_draining_until_that_is_done(tmp_path: Path) -> None:
    with Supervised("busy", tmp_path, grace_s=1) as fleet:
        fleet.wait_for_line("busy is up")

        code = run(["drain", "Busy", "--no-wait", "--set", f"home={tmp_path}"])

        fleet.wait_for_line("Busy stops")
        assert code == 0
        assert fleet.role("Busy").state == "draining"
        eventually(lambda: fleet.role("Busy").state == "drained")


def test_why_says_what_happened_as_well_as_what_was_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--set", f"home={tmp_path}"]
    with Supervised("steady", tmp_path, first_s=0.05) as fleet:
        fleet.wait_for_line("steady is up")
        os.kill(fleet.pids("Steady")[0], signal.SIGKILL)
        eventually(lambda: len(fleet.role("Steady").reasons) == 1)
        run(["scale", "Steady=1", *home])
        capsys.readouterr()

        code = run(["ps", "--why", *home])

    lines = capsys.readouterr().out.splitlines()
    at = lines.index("Steady")
    assert code == 0
    assert lines[at + 1].endswith("  Steady/0 ended: SIGKILL")
    assert lines[at + 2].endswith("  2 \u2192 1 by hand")


def test_watching_shows_it_again_until_it_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rolekit", "ps", "--watch", "--set", f"home={tmp_path}"]
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as watching:
            assert watching.stdout is not None
            assert watching.stderr is not None
            first = [watching.stdout.readline() for _ in range(4)]
            second = [watching.stdout.readline() for _ in range(4)]
            fleet.interrupt()
            code = watching.wait(patient(10))
            said = watching.stderr.read()

    assert first[0] == second[0]
    assert first[3] == "\n"
    assert first[0].startswith("ROLE")
    assert code == 2
    assert "went away" in said


def test_top_shows_what_processes_use(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rolekit", "top", "--set", f"home={tmp_path}"]
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        usage = fleet.usage()
        pids = {*fleet.pids("Steady"), *fleet.pids("Front")}
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as top:
            assert top.stdout is not None
            lines = [top.stdout.readline() for _ in range(12)]
            top.terminate()

    assert {one.pid for one in usage.processes} == pids
    assert all(one.memory_bytes > 100_000 and one.cpu_s >= 0 for one in usage.processes)
    assert usage.supervisor is not None
    assert usage.supervisor.cpu_s > 0.1
    assert lines[0].startswith("steady  ready  2 roles  3 instances  supervisor " + NONE)
    assert lines[6].startswith("steady  ready  2 roles  3 instances  supervisor ")
    assert "%" in lines[6]


def test_who_looks_in_the_wrong_home_is_told_where_apps_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with Supervised("steady", there) as fleet:
        fleet.wait_for_line("steady is up")

        code = run(["ps", "--app", "steady", "--set", f"home={here}"])

    said = capsys.readouterr().err
    assert code == 2
    assert f"answers in {here}. On this host, there run: " in said
    assert f"steady in {there}" in said
    assert "ROLEKIT_HOME=" in said
    assert "rolekit up steady" in said
