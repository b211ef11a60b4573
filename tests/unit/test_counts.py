"""How many instances a role may have, as somebody writes it."""

from __future__ import annotations

import pytest

from rolekit.errors import ConfigError
from rolekit.supervisor.counts import count_at_start, count_of, has_rule
from rolekit.supervisor.wire import Bounds, RoleSummary

FREE = RoleSummary(name="Free", queues=("q",))
RULED = RoleSummary(name="Ruled", queues=("q",), scale=Bounds(2, 50, 5))
ALONE = RoleSummary(name="Alone", queues=("q",), scale=Bounds(1, 1))


@pytest.mark.parametrize(
    ("change", "count"), [("5", 5), ("+5", 9), ("-2", 2), ("0", 0), ("+0", 4), (" 7 ", 7)]
)
def test_a_number_is_how_many_and_a_sign_how_many_more(change: str, count: int) -> None:
    assert count_of(FREE, change, 4) == count


@pytest.mark.parametrize(
    ("role", "change", "what", "fix"),
    [
        (FREE, "x", "Free cannot have 'x' instances; a number from 0 to 10,000", "Free=+2"),
        (FREE, "1.5", "a number from 0 to 10,000 is expected", "Free=5"),
        (FREE, "-5", "Free cannot have -1 instances", "It has 4 now"),
        (FREE, "20000", "Free cannot have 20000 instances", "It has 4 now"),
        (RULED, "many", "a number from 2 to 50 is expected", "or Ruled=auto"),
        (RULED, "51", "Ruled may have 2 to 50 instances, not 51", "Scale(min=2, max=50)"),
        (RULED, "-3", "Ruled may have 2 to 50 instances, not 1", "Scale(min=2, max=50)"),
        (ALONE, "+1", "Alone cannot be scaled", "`self.listening`"),
        (ALONE, "auto", "Alone cannot have 'auto' instances; 1 is expected", "Alone=5"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(
    role: RoleSummary, change: str, what: str, fix: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        count_of(role, change, 4)

    assert what in refused.value.what
    assert fix in refused.value.fix


def test_a_role_begins_with_what_settings_or_class_say_within_its_scale() -> None:
    ruled = RoleSummary(name="Ruled", queues=("q",), scale=Bounds(2, 50), instances=4)

    assert count_at_start(ruled, None) == 4
    assert count_at_start(ruled, "100") == 50
    assert count_at_start(RULED, None) == 2
    assert count_at_start(FREE, "3") == 3
    with pytest.raises(ConfigError, match="a number from 2 to 50"):
        count_at_start(ruled, "lots")


def test_a_rule_needs_messages_that_wait_and_a_choice() -> None:
    assert has_rule(RULED)
    assert not has_rule(FREE)
    assert not has_rule(ALONE)
    assert not has_rule(RoleSummary(name="Front", is_web=True, scale=Bounds(1, 5)))
