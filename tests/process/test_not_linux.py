"""A supervisor where there is nothing that only Linux has.

Tried on Linux, with all of that taken away from Python; see `not_linux.py`.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from rolekit.errors import RolekitError
from rolekit.supervisor import linux
from tests.process.supervised import HERE, Supervised, eventually
from tests.process.test_supervisor import connect

pytestmark = pytest.mark.timeout(180)

SOON_S = 40.0
"""Each instance imports the app itself, one beside the other."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder from which the interpreters of a supervisor are made poorer."""
    shutil.copy(HERE / "not_linux.py", tmp_path / "sitecustomize.py")
    return tmp_path


def test_whoever_is_killed_has_a_successor_and_the_stop_is_in_order(home: Path) -> None:
    with Supervised("steady", home, first_s=0.05) as fleet:
        fleet.wait_for_line("steady is up", within_s=SOON_S)
        before = fleet.pids("Steady")
        commands = [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in before]
        answered = connect(fleet.role("Front").address)

        os.kill(before[0], signal.SIGKILL)
        eventually(
            lambda: before[0] not in fleet.pids("Steady") and fleet.role("Steady").ready == 2,
            SOON_S,
        )
        assert before[1] in fleet.pids("Steady")
        assert fleet.get("/top").status_code == 200

        fleet.interrupt()
        assert fleet.wait() == 0

    assert "This is someix14, not Linux: instances are spawned, not forked" in fleet.output
    assert [one[2] for one in commands] == ["rolekit.supervisor.spawning"] * 2
    assert answered > 0
    assert fleet.output.count("Steady stops") == 2
    assert fleet.released()[0] == 7 << 24 | 1


def test_one_that_hangs_is_signalled_by_its_parent(home: Path) -> None:
    with Supervised("deaf", home, silence_s=2, term_s=0.5, first_s=0.05) as fleet:
        fleet.wait_for_line("deaf is up", within_s=SOON_S)
        (before,) = fleet.pids("Deaf")

        eventually(lambda: before not in fleet.pids("Deaf"), SOON_S)

    assert (
        "Deaf/0 ended: it said nothing for 2 s" in str(fleet.output)
        or "SIGKILL" in fleet.output
    )
    assert "instance_main" in fleet.output or "_live" in fleet.output  # its stacks


@pytest.mark.parametrize("who", ["supervisor", "zygote"])
def test_nobody_outlives_those_above(home: Path, who: str) -> None:
    with Supervised("steady", home, first_s=0.05) as fleet:
        fleet.wait_for_line("steady is up", within_s=SOON_S)
        below = fleet.descendants()
        (zygote,) = (one for one in below if one.parent == fleet.process.pid)
        instances = [one for one in below if one.parent == zygote.pid]
        assert len(instances) == 4  # two Steady, Front, relay

        if who == "zygote":
            zygote.kill()
        else:
            fleet.process.kill()
        eventually(lambda: not any(one.is_alive for one in instances), within_s=3)

        if who == "zygote":
            eventually(lambda: fleet.status().state == "ready", SOON_S)


def test_what_is_not_like_unix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "os", SimpleNamespace(name="nt"))

    with pytest.raises(RolekitError, match="runs on Linux, and on systems like it"):
        linux.require()
