"""Mailflow's scenarios: they can be read, and what they send is what their check expects."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.mailflow.load.entry import maker
from rolekit.load.entries import named
from rolekit.load.reading import read
from rolekit.load.scenario import Call

SCENARIOS = sorted(
    (Path(__file__).parents[2] / "examples" / "mailflow" / "load").glob("*.toml")
)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_can_be_read_and_names_what_there_is(path: Path) -> None:
    scenario = read(path)

    assert isinstance(scenario.entry, Call)
    assert callable(named(scenario.entry.call))
    assert callable(named(scenario.check))
    assert scenario.wanted


def test_the_check_makes_the_mails_that_were_sent() -> None:
    scenario = read(SCENARIOS[0])
    one, other = maker(scenario, "r1"), maker(scenario, "r1")

    assert [one(number) for number in range(30)] == [other(number) for number in range(30)]
    assert one(1) != maker(scenario, "r2")(1)
    assert len({mail.key for mail in map(one, range(30))}) == 30
