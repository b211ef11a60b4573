"""The laws of arrival laws: any rates, any seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.errors import ConfigError
from rolekit.load.arrivals import (
    Arrival,
    Burst,
    Constant,
    Poisson,
    Ramp,
    Replay,
    Step,
    due_times,
)

if TYPE_CHECKING:
    from pathlib import Path

rates = st.floats(0.5, 500)
spans = st.floats(0.5, 20)
laws: st.SearchStrategy[Arrival] = st.one_of(
    st.builds(Constant, rate=rates),
    st.builds(Poisson, rate=rates),
    st.builds(Ramp, start=st.floats(0, 500), end=rates),
    st.builds(Ramp, start=rates, end=st.floats(0, 500)),
    st.builds(Step, rates=st.lists(st.floats(0, 500), min_size=1, max_size=5).map(tuple)),
    st.builds(
        Burst, size=st.integers(1, 200), every_s=st.floats(0.1, 10), rate=st.floats(0, 100)
    ),
)


@given(laws, spans, st.integers(0, 99))
def test_times_ascend_within_the_run_and_depend_on_the_seed_alone(
    law: Arrival, for_s: float, seed: int
) -> None:
    times = list(due_times(law, for_s, seed))

    assert times == sorted(times)
    assert all(0 <= at_s < for_s for at_s in times)
    assert list(due_times(law, for_s, seed)) == times


@given(st.floats(0, 500), st.floats(0, 500), spans)
def test_a_ramp_has_as_many_requests_as_the_area_under_it(
    start: float, end: float, for_s: float
) -> None:
    law = Ramp(start=start, end=end)

    count = len(list(due_times(law, for_s, 1))) if start or end else 0

    assert count == pytest.approx((start + end) / 2 * for_s, abs=1.01)


@given(st.floats(20, 500), st.integers(0, 99))
def test_poisson_keeps_its_rate(rate: float, seed: int) -> None:
    count = len(list(due_times(Poisson(rate=rate), 30, seed)))

    # Six standard deviations: not once in the lifetime of this test.
    assert count == pytest.approx(rate * 30, abs=6 * (rate * 30) ** 0.5)


def test_steps_follow_each_other() -> None:
    times = list(due_times(Step(rates=(1, 0, 4)), 6, 1))

    assert times == [0, 1, 4, 4.25, 4.5, 4.75, 5, 5.25, 5.5, 5.75]


def test_bursts_come_over_a_steady_rate() -> None:
    times = list(due_times(Burst(size=3, every_s=2, rate=1), 4, 1))

    assert times == [0, 1, 2, 2, 2, 2, 3]


def test_a_recording_starts_at_its_first_line_and_may_go_faster(tmp_path: Path) -> None:
    file = tmp_path / "times"
    file.write_text("100.5\n101\n\n104.5\n999\n", encoding="utf-8")

    times = list(due_times(Replay(file=str(file), speed=2), 60, 1))

    assert times == [0, 0.25, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\nsoon\n", "line 2: 'soon' is not a time"),
        ("5\n4\n", "line 2: 4 lies before 5"),
        ("nan\n", "line 1: 'nan' is not a time"),
    ],
)
def test_a_recording_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "times"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=said):
        list(due_times(Replay(file=str(file)), 60, 1))
