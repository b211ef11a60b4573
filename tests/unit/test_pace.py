"""How much of a queue an instance holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.model.pace import MOST, next_window


@pytest.mark.parametrize(
    ("window", "handled", "expected"),
    [
        (20, 0, 20),  # nothing to go by
        (20, 60, 20),  # 300/s: 15 in a moment
        (20, 100, 80),  # 500/s: 25 in a moment
        (80, 3_000, 320),
        (320, 10_000, 1280),
        (1280, 100_000, 1280),  # no more than the most
        (320, 1_000, 320),  # 5,000/s are 250 in a moment: near enough
        (320, 60, 80),  # 15 in a moment
        (80, 0, 20),
    ],
)
def test_a_window_follows_what_is_got_through_in_a_moment(
    window: int, handled: int, expected: int
) -> None:
    assert next_window(window, 20, handled, 0.2) == expected


@given(
    st.integers(1, 5000), st.lists(st.integers(0, 1_000_000), max_size=20), st.floats(0.01, 5)
)
def test_a_window_stays_between_what_runs_and_the_most(
    least: int, counts: list[int], seconds: float
) -> None:
    window = least
    for handled in counts:
        window = next_window(window, least, handled, seconds)
        assert least <= window <= max(MOST, least)


@given(st.integers(1, 300), st.integers(0, 100_000))
def test_a_steady_rate_ends_in_one_window(least: int, handled: int) -> None:
    window = least
    for _ in range(10):
        window = next_window(window, least, handled, 0.2)

    assert next_window(window, least, handled, 0.2) == window
