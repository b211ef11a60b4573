"""Settings and limits of a running fleet: taken, refused, and instances replaced for them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from rolekit.cli.main import run
from tests.process.supervised import Supervised, eventually

pytestmark = pytest.mark.timeout(60)


def write(home: Path, **settings: object) -> None:
    lines = [f"{name} = {value!r}" for name, value in settings.items()]
    (home / "rolekit.toml").write_text("\n".join(["[roles.Steady]", *lines]))


def reload(home: Path) -> int:
    return run(["reload", "--set", f"home={home}"])


def test_instances_take_what_changed_or_are_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        before = fleet.pids("Steady")

        write(tmp_path, mood="content")
        taken = reload(tmp_path)
        stayed = fleet.pids("Steady")
        write(tmp_path, mood="restless")
        left = reload(tmp_path)

        eventually(lambda: not set(before) & set(fleet.pids("Steady")), within_s=20)
        eventually(lambda: fleet.role("Steady").ready == 2)
        restarts = [place.restarts for place in fleet.role("Steady").places]
    assert (taken, left) == (0, 0)
    assert stayed == before
    assert restarts == [0, 0]  # replaced, and not died
    assert capsys.readouterr().out.splitlines() == [
        "Steady: mood changed; 2 of 2 took it.",
        "Steady: mood changed; 0 of 2 took it, 2 are replaced.",
    ]


def test_what_holds_for_the_whole_app_reaches_instances_that_a_restart_starts(
    tmp_path: Path,
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        (tmp_path / "rolekit.toml").write_text("horizon_s = 90000")
        assert reload(tmp_path) == 0
        assert run(["restart", "--set", f"home={tmp_path}"]) == 0

        environ = (Path("/proc") / str(fleet.pids("Steady")[0]) / "environ").read_bytes()
    assert b"ROLEKIT_HORIZON_S=90000.0" in environ


def test_settings_that_cannot_be_used_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        before = fleet.pids("Steady")

        write(tmp_path, mood="wrong", instances=3)
        wrong = reload(tmp_path)
        write(tmp_path, instances=9)
        many = reload(tmp_path)
        write(tmp_path, max_age_s=-1)
        negative = reload(tmp_path)
        write(tmp_path, bind="127.0.0.1:1")
        bound = reload(tmp_path)
        (tmp_path / "rolekit.toml").write_text("[roles")
        torn = reload(tmp_path)

        assert fleet.pids("Steady") == before
    assert (wrong, many, negative, bound, torn) == (2, 2, 2, 2, 2)
    said = capsys.readouterr().err
    assert "Steady.mood is 'wrong'." in said
    assert "Steady may have 0 to 5 instances, not 9." in said
    assert "Steady.max_age_s is '-1'; a number above 0 is expected." in said
    assert "Steady.bind cannot change while it runs" in said
    assert "cannot be read" in said


def test_a_hang_up_reads_settings_and_scales(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        before = fleet.pids("Steady")

        write(tmp_path, instances=4)
        fleet.process.send_signal(signal.SIGHUP)

        eventually(lambda: fleet.role("Steady").ready == 4)
        assert set(before) < set(fleet.pids("Steady"))


@pytest.mark.parametrize(("name", "limit"), [("max_messages", 150), ("max_age_s", 1.5)])
def test_an_instance_beyond_its_limit_is_replaced_by_one_that_is_ready(
    tmp_path: Path, name: str, limit: float
) -> None:
    write(tmp_path, **{name: limit})
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        before = fleet.pids("Steady")
        ready: list[int] = []

        def are_replaced() -> bool:
            role = fleet.role("Steady")
            ready.append(sum(one.state == "ready" for one in role.places[:2]))
            return not set(before) & {place.pid for place in role.places}

        eventually(are_replaced, within_s=40)

        assert min(ready) == 2
        assert "recycling: another is ready before it goes" in fleet.output
