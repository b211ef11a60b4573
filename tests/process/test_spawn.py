"""Instances that are spawned: interpreters of their own, for apps that cannot be forked."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from rolekit.supervisor import linux, zygote
from tests.process.supervised import Supervised, eventually
from tests.process.test_supervisor import connect

pytestmark = pytest.mark.timeout(120)

SOON_S = 40.0
"""Each instance imports the app itself, one beside the other."""


def test_an_app_with_threads_runs_in_interpreters_of_their_own(tmp_path: Path) -> None:
    with Supervised("threaded", tmp_path, first_s=0.05) as fleet:
        fleet.wait_for_line("threaded is up", within_s=SOON_S)
        pids = fleet.pids("Steady")
        commands = [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in pids]
        answered = connect(fleet.role("Front").address)

        os.kill(pids[0], signal.SIGKILL)
        eventually(lambda: pids[0] not in fleet.pids("Steady"), within_s=SOON_S)
        eventually(lambda: fleet.role("Steady").ready == 2, within_s=SOON_S)
        below = fleet.descendants()
        fleet.process.kill()

        eventually(lambda: not any(one.is_alive for one in below), within_s=2)

    assert [one[:3] for one in commands] == [
        [sys.executable, "-m", "rolekit.supervisor.spawning"]
    ] * 2
    assert answered > 0
    assert "Instances are spawned, not forked" in fleet.output


def test_a_spawned_fleet_stops_in_order(tmp_path: Path) -> None:
    with Supervised("threaded", tmp_path) as fleet:
        fleet.wait_for_line("threaded is up", within_s=SOON_S)

        fleet.interrupt()

        assert fleet.wait() == 0
        assert fleet.output.count("Steady stops") == 2


def test_an_app_with_threads_is_not_forked(tmp_path: Path) -> None:
    with Supervised("leftover", tmp_path) as fleet:
        assert fleet.wait() == 2

        assert "Importing threaded_app:leftover left 1 thread(s) running" in fleet.output
        assert 'set start_method = "spawn"' in fleet.output


@pytest.mark.anyio
async def test_nobody_forks_inside_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "has_one_thread", lambda: True)

    assert zygote.trouble().startswith("an event loop running")


def test_who_has_one_thread_and_no_loop_may_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "has_one_thread", lambda: True)

    assert not zygote.trouble()
