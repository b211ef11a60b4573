"""What an instance says at once to its supervisor, and what can wait."""

from __future__ import annotations

import pytest

from rolekit.link import LATE_MS, Beat

LAST = Beat(in_hand=1, handled=7, cpu_s=1.0, notes={"W.work": "paused"})


def test_time_that_went_by_is_not_worth_saying() -> None:
    assert not Beat(in_hand=1, handled=7, cpu_s=1.5, notes=LAST.notes).says_more_than(LAST)


@pytest.mark.parametrize(
    "now",
    [
        Beat(in_hand=1, handled=8, notes=LAST.notes),
        Beat(in_hand=0, handled=7, notes=LAST.notes),
        Beat(in_hand=1, handled=7),
        Beat(in_hand=1, handled=7, age_s=3.0, notes=LAST.notes),
        Beat(in_hand=1, handled=7, lag_ms=LATE_MS + 1, notes=LAST.notes),
    ],
    ids=["handled", "in hand", "notes", "age", "lag"],
)
def test_what_changed_is_said_at_once(now: Beat) -> None:
    assert now.says_more_than(LAST)
