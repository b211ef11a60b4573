"""What a dashboard shows of several supervisors of one app, as in containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.cli.supervisors import Supervisors
from rolekit.errors import ConfigError, Unavailable
from tests.process.fleet_main import CONTROL_TOKEN
from tests.process.supervised import Supervised, eventually
from tests.servers import free_port

if TYPE_CHECKING:
    from pathlib import Path


def test_two_supervisors_are_asked_and_told_as_one(tmp_path: Path) -> None:
    ports = (free_port(), free_port())
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        home.mkdir()
    places = [f"localhost:{ports[0]}", f"127.0.0.1:{ports[1]}", "nowhere.invalid:7070"]
    both = Supervisors(places, CONTROL_TOKEN)
    with (
        Supervised("steady", homes[0], control=ports[0]) as one,
        Supervised("steady", homes[1], control=ports[1]) as two,
    ):
        for fleet in (one, two):
            fleet.wait_for_line("steady is up")
        status = both.status()
        (role,) = (one for one in status.roles if one.role == "Steady")
        usage = both.usage()
        with pytest.raises(ConfigError, match="Steady runs under 2 supervisors"):
            both.scale("Steady", "5")
        with pytest.raises(ConfigError, match="has a role Stedy"):
            both.scale("Stedy", "5")
        said = both.restart("Steady")
        with pytest.raises(Unavailable, match="was sent a wrong token"):
            Supervisors(places, "another" * 5).status()
        two.process.kill()
        eventually(lambda: len(both.status().missing) == 2)
        scaled = both.scale("Steady", "3")
        alone = both.status().missing

    assert role.ready == role.instances == len(role.places) == 4
    assert len({place.pid for place in role.places}) == 4
    pids = {place.pid for one in status.roles for place in one.places}
    assert {one.pid for one in usage.processes} == pids
    assert status.missing == ("nowhere.invalid:7070",)
    assert said.startswith("2 supervisors did it")
    assert scaled == 3
    assert alone == ("nowhere.invalid:7070", f"127.0.0.1:{ports[1]}")
    with pytest.raises(Unavailable, match="None of localhost"):
        both.status()


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="--supervisor worker is not an address"):
        Supervisors(["worker"], "")
