"""A fleet under faults, by seed: one outcome for each id, each sequence whole, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from tests.property.checking import check, hear_of_bugs
from tests.property.sabotage import SABOTAGES, many_tokens
from tests.property.sabotage_lines import stolen_partitions
from tests.property.simulated_app import APPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Hear of bugs, and of nothing else that instances log."""
    before = structlog.get_config()
    hear_of_bugs()
    yield
    structlog.configure(**before)


SEEDS = 60
"""For each of the apps."""
DEFECTS = [("Keys", 1945)]
"""Found by `make simulate`: a partition given while another one was dropped."""


@pytest.mark.parametrize("name", APPS)
def test_whatever_happens_each_message_has_one_outcome_and_each_sequence_comes_in_order(
    name: str,
) -> None:
    for seed in range(SEEDS):
        try:
            check(name, seed)
        except BaseException as error:
            error.add_note(f"seed {seed} of {name}: check({name!r}, {seed}) shows it again")
            raise


@pytest.mark.parametrize(("name", "seed"), DEFECTS)
def test_what_showed_a_defect_once_shows_none_now(name: str, seed: int) -> None:
    check(name, seed)


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda each: each.__name__)
def test_a_protection_that_is_taken_away_is_missed(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)

    with pytest.raises(AssertionError):
        check_many(range(SEEDS), SABOTAGES[sabotage])


def check_many(seeds: range, names: Iterable[str] = APPS) -> None:
    for seed in seeds:
        for name in names:
            check(name, seed)


def test_several_tokens_of_a_sequence_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    many_tokens(monkeypatch)

    # In a stream a token is what keeps outputs in order: it leaves behind them.
    check_many(range(10), [name for name in APPS if name != "Streams"])


def test_partitions_that_are_taken_from_living_owners_do_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stolen_partitions(monkeypatch)

    check_many(range(10), ["Keys", "Passes"])
