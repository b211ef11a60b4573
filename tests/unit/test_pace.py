"""How much of a queue an instance holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.model.pace import MOST, grown, shrunk


@pytest.mark.parametrize(
    ("window", "handled", "expected"),
    [
        (20, 0, 20),
        (20, 15, 20),  # 300/s: 15 in a moment
        (20, 25, 80),  # 500/s: 25 in a moment
        (80, 750, 320),
        (320, 2_500, 1280),
        (1280, 25_000, 1280),  # no more than the most
    ],
)
def test_a_window_grows_to_what_is_got_through_in_a_moment(
    window: int, handled: int, expected: int
) -> None:
    assert grown(window, 20, handled, 0.05) == expected


@pytest.mark.parametrize(
    ("window", "handled", "expected"),
    [
        (320, 5_000, 320),  # 250 in a moment: near enough
        (320, 300, 80),  # 15 in a moment
        (80, 0, 20),
        (20, 0, 20),  # never less than runs
    ],
)
def test_a_window_shrinks_when_it_is_far_too_much(
    window: int, handled: int, expected: int
) -> None:
    assert shrunk(window, 20, handled, 1.0) == expected


@given(
    st.integers(1, 5000), st.lists(st.integers(0, 1_000_000), max_size=20), st.floats(0.01, 5)
)
def test_a_window_stays_between_what_runs_and_the_most(
    least: int, counts: list[int], seconds: float
) -> None:
    window = least
    for handled in counts:
        window = shrunk(grown(window, least, handled, seconds), least, handled, seconds)
        assert least <= window <= max(MOST, least)


@given(st.integers(1, 300), st.integers(0, 100_000))
def test_at_a_steady_rate_a_window_that_grew_does_not_shrink(least: int, rate: int) -> None:
    window = least
    for _ in range(10):
        window = grown(window, least, rate, 1.0)

    assert shrunk(window, least, rate, 1.0) == window
