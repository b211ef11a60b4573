"""The laws of recycling: never beyond a limit, never long before it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.errors import ConfigError
from rolekit.model.recycling import SPREAD, Limits, limits

DRAWS = st.floats(0, 1)
AGES = st.floats(0.1, 1e9)


@given(limit=AGES, age_s=st.floats(0, 2e9), draw=DRAWS)
def test_an_age_counts_from_a_bit_before_its_limit_on(
    limit: float, age_s: float, draw: float
) -> None:
    reached = Limits(age_s=limit).reached(age_s=age_s, handled=0, draw=draw)

    if age_s >= limit:
        assert "s at most" in reached
    if age_s < limit * (1 - SPREAD):
        assert reached == ""


@given(limit=st.integers(1, 10**9), handled=st.integers(0, 2 * 10**9), draw=DRAWS)
def test_so_do_messages(limit: int, handled: int, draw: float) -> None:
    reached = Limits(messages=limit).reached(age_s=math.inf, handled=handled, draw=draw)

    if handled >= limit:
        assert "at most" in reached
    if handled < limit * (1 - SPREAD):
        assert reached == ""


@given(limit=st.floats(1, 1e5), memory_mb=st.floats(0, 2e5), draw=DRAWS)
def test_memory_counts_from_its_limit_on(limit: float, memory_mb: float, draw: float) -> None:
    of_memory = Limits(memory_mb=limit)

    reached = of_memory.reached(age_s=0, handled=0, draw=draw, memory_mb=memory_mb)

    assert ("MB at most" in reached) == (memory_mb >= limit)


def test_without_limits_an_instance_lives_for_ever() -> None:
    assert Limits().reached(age_s=1e12, handled=10**12, draw=1, memory_mb=1e9) == ""


@pytest.mark.parametrize("age_s", [0, -1, "soon", math.nan, math.inf, "", True - 1])
def test_an_age_that_is_none_is_refused(age_s: object) -> None:
    with pytest.raises(ConfigError, match=r"W\.max_age_s is .*a number above 0 is expected"):
        limits("W", {"max_age_s": age_s})


@pytest.mark.parametrize("messages", [0, "1.5", "many"])
def test_a_number_of_messages_that_is_none_is_refused(messages: object) -> None:
    with pytest.raises(ConfigError, match=r"W\.max_messages is "):
        limits("W", {"max_messages": messages})
