"""What is said of an event loop that stood still."""

from __future__ import annotations

from structlog.testing import capture_logs

from rolekit.observe.lag import LagLog


def said(*noted: tuple[float, float]) -> list[tuple[object, object]]:
    """Note lags, each at a time; return what was logged, as longest and how often."""
    lags = LagLog()
    with capture_logs() as logs:
        for lag_s, now_s in noted:
            lags.note(lag_s, now_s)
    assert all(one["event"].startswith("the event loop stood still") for one in logs)
    assert all(one["log_level"] == "warning" for one in logs)
    return [(one["for_s"], one["times"]) for one in logs]


def test_a_loop_that_is_a_little_late_is_not_spoken_of() -> None:
    assert said((0.2, 1), (4.9, 2)) == []


def test_a_loop_that_stood_still_is_told_at_once_with_how_long() -> None:
    assert said((7.25, 3)) == [(7.2, 1)]


def test_what_follows_within_a_minute_is_told_together_after_it() -> None:
    assert said((6, 0), (9, 20), (12, 40), (0, 59), (0, 60), (0, 200)) == [(6, 1), (12, 2)]
