"""Rolling restarts of real processes: new ones first, back when they fail, plain refusals."""

from __future__ import annotations

import re
import socket
import threading
from typing import TYPE_CHECKING, Self

from rolekit.cli.main import run
from tests.process.supervised import Descendant, Supervised, eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from rolekit.supervisor.status import InstanceStatus


def restart(home: Path, *arguments: str) -> int:
    return run(["restart", *arguments, "--set", f"home={home}"])


def places(fleet: Supervised, role: str = "Steady") -> Sequence[InstanceStatus]:
    return fleet.role(role).places


def zygotes(fleet: Supervised) -> list[Descendant]:
    """Those that stand above them: one each."""
    return [one for one in fleet.descendants() if one.parent == fleet.process.pid]


class Watch:
    """Looks at a role all the time, and notes the fewest instances that were ready at once."""

    def __init__(self, fleet: Supervised, role: str) -> None:
        self._fleet, self._role = fleet, role
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.fewest = 1000
        self.most = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.is_set():
            role = self._fleet.role(self._role)
            # Two that drain at once have two successors, so the role itself is never short.
            kept = role.places[: role.instances]
            self.fewest = min(self.fewest, sum(one.state == "ready" for one in kept))
            self.most = max(self.most, role.running)


def test_a_restart_replaces_every_instance_and_never_lacks_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        fleet.post("/scale", '{"role": "Steady", "count": "5"}')
        eventually(lambda: fleet.role("Steady").ready == 5)
        before = set(fleet.pids("Steady"))

        with Watch(fleet, "Steady") as watch:
            code = restart(tmp_path)

        assert code == 0
        assert not before & set(fleet.pids("Steady"))
        assert [one.version for one in places(fleet)] == [2] * 5
        assert watch.fewest == 5
        assert watch.most == 6  # one domain of five at a time
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Importing fleet_app:steady."
    assert "Steady: 2 of 5 run version 2." in lines
    assert lines.index("Steady: 5 of 5 run version 2.") < lines.index(
        "Front: 1 of 1 run version 2."
    )
    assert lines[-1] == "Done: version 2 runs (fleet_app:steady)."


def test_a_restart_of_one_role_leaves_the_others_alone(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        before = fleet.pids("Steady")

        code = restart(tmp_path, "Front", "--to", "fleet_app:steady_next")

        assert code == 0
        assert fleet.pids("Steady") == before
        assert [one.version for one in places(fleet, "Front")] == [2]


def test_a_new_version_brings_its_new_roles_and_goes_with_them(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        forth = restart(tmp_path, "--to", "fleet_app:steady_next")
        there = {role.role: role.ready for role in fleet.status().roles}
        eventually(lambda: len(zygotes(fleet)) == 1)  # the old one ends with its last instance
        back = restart(tmp_path, "--to", "fleet_app:steady")
        left = {role.role: role.ready for role in fleet.status().roles}

        assert (forth, back) == (0, 0)
        assert there == {"Steady": 2, "Front": 1, "Parent": 1}
        assert left == {"Steady": 2, "Front": 1}


def is_back(fleet: Supervised, before: Sequence[int]) -> bool:
    return fleet.status().state == "ready" and all(
        one.version == 1 for name in ("Steady", "Front") for one in places(fleet, name)
    )


def answers(address: str) -> bool:
    """Whether an instance says its process id to whoever connects there."""
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            return connection.recv(100).isdigit()
    except ConnectionRefusedError:
        return False


def test_a_new_role_that_listens_gets_socket_and_settings_and_gives_them_back(
    tmp_path: Path,
) -> None:
    (tmp_path / "rolekit.toml").write_text("[roles.Side]\ninstances = 2\n")
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        forth = restart(tmp_path, "--to", "fleet_app:steady_wide")
        side = fleet.role("Side")
        answered = answers(side.address)
        back = restart(tmp_path, "--to", "fleet_app:steady")

        assert (forth, side.ready, answered) == (0, 2, True)
        assert back == 0
        assert not answers(side.address)


def test_a_new_role_that_cannot_listen_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Supervised("steady", tmp_path) as fleet,
    ):
        port = taken.getsockname()[1]
        bind = f'[roles.Side]\nbind = "127.0.0.1:{port}"\n'
        (tmp_path / "rolekit.toml").write_text(bind)
        fleet.wait_for_line("steady is up")
        before = fleet.pids("Steady")

        code = restart(tmp_path, "--to", "fleet_app:steady_wide")

        assert code == 2
        assert f"Port {port} is in use, so Side cannot listen" in capsys.readouterr().err
        assert fleet.pids("Steady") == before
        eventually(lambda: len(zygotes(fleet)) == 1)


def test_it_goes_back_when_a_new_one_does_not_become_ready_in_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        second = places(fleet)[1].pid

        code = restart(tmp_path, "--to", "fleet_app:steady_late", "--ready", "0.5")

        assert code == 1
        assert is_back(fleet, [])
        assert places(fleet)[1].pid == second  # it never drained
    printed = capsys.readouterr()
    assert "Aborted: Steady/1 was not ready in 0.5 s." in printed.out
    assert "Rolled back: what ran before runs again." in printed.out
    assert "The restart was aborted" in printed.err


def test_it_goes_back_when_a_new_one_dies_before_it_is_ready(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path, first_s=0.01) as fleet:
        fleet.wait_for_line("steady is up")

        code = restart(tmp_path, "--to", "fleet_app:steady_dying")

        assert code == 1
        assert is_back(fleet, [])
    # One more death may come before the roll looks.
    said = capsys.readouterr().out
    assert re.search(r"Aborted: Steady/1 died [34] times before it was ready", said)


def test_nothing_is_touched_by_an_app_that_cannot_be_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        before = fleet.descendants()

        raising = restart(tmp_path, "--to", "raising_app:app")
        raised = capsys.readouterr().err
        missing = restart(tmp_path, "--to", "no_such_app:app")
        missed = capsys.readouterr().err
        other = restart(tmp_path, "--to", "fleet_app:busy")
        refused = capsys.readouterr().err

        assert [one.pid for one in fleet.descendants()] == [one.pid for one in before]
    assert (raising, missing, other) == (1, 2, 2)
    assert "Nothing was restarted." in raised
    assert "Importing raising_app:app raised RuntimeError: no configuration" in raised
    assert 'raise RuntimeError("no configuration")' in raised
    assert "There is no module no_such_app" in missed
    assert "fleet_app:busy is the app busy, but steady runs here." in refused


def test_a_misspelt_role_is_2_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        code = restart(tmp_path, "Fornt")

    assert code == 2
    assert "There is no role Fornt. Did you mean Front?" in capsys.readouterr().err


def test_a_second_restart_is_told_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        late = ["--to", "fleet_app:steady_late", "--domains", "1", "--ready", "3"]
        first = threading.Thread(target=restart, args=(tmp_path, *late))
        first.start()
        fleet.wait_for_line("Importing fleet_app:steady_late")
        eventually(lambda: fleet.role("Steady").running == 4)

        second = restart(tmp_path)

        notes = fleet.role("Steady").notes
        first.join()
    assert second == 2
    assert "A restart is under way already (Steady: " in capsys.readouterr().err
    assert notes == ("restarting: 0 of 2 run version 2",)
