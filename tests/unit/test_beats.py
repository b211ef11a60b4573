"""What an instance says at once to its supervisor, and what can wait."""

from __future__ import annotations

import itertools

import pytest

from rolekit.link import LATE_MS, Beat
from rolekit.supervisor.instance import Patience
from rolekit.wiring.rhythm import BEAT_S, IDLE_BEAT_S, Rhythm

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


def test_who_is_idle_wakes_less_often_and_is_heard_in_time() -> None:
    rhythm, at_s, said_at_s = Rhythm(), 0.0, [0.0]
    waits: list[float] = []
    for handled in (1, 2, *[2] * 7, 3, 4):
        waits.append(rhythm.wait_s)
        at_s += rhythm.wait_s
        if rhythm.is_said(Beat(handled=handled)):
            said_at_s.append(at_s)

    busy, idle = BEAT_S, IDLE_BEAT_S
    assert waits == [busy] * 5 + [idle] * 5 + [busy]
    gaps = [after - before for before, after in itertools.pairwise(said_at_s)]
    assert gaps == [busy, busy, 3 * busy, *[idle] * 5, busy]
    assert max(gaps) < Patience().silence_s / 2


def test_who_nothing_comes_to_at_first_is_idle_at_once() -> None:
    rhythm = Rhythm()
    waits: list[float] = []
    for handled in (0, 0, 0, 1, 1):
        waits.append(rhythm.wait_s)
        assert rhythm.is_said(Beat(handled=handled)) == (len(waits) < 5)

    assert waits == [BEAT_S, *[IDLE_BEAT_S] * 3, BEAT_S]
