"""What the benchmarks make of their numbers."""

from __future__ import annotations

import pytest

from benchmarks.figures import Bar, Run, difference, exit_code, judge, metric, ratio, spread

OURS, THEIRS = "rolekit", "peer"
FASTER = Bar(name="consume/peer", of=OURS, against=THEIRS, at_least=3)
CHEAP = Bar(name="CPU", of=OURS, metric="cpu_us", at_most=25, unit="us")


def rounds(*rates: tuple[int, int]) -> list[dict[str, Run]]:
    return [{OURS: Run(ours, 1, 0.5), THEIRS: Run(theirs, 1, 1)} for ours, theirs in rates]


def test_a_spread_is_the_median_with_its_range() -> None:
    found = spread([5, 1, 100, 3, 4])

    assert found is not None
    assert (found.median, found.low, found.high, found.rounds) == (4, 1, 100, 5)


def test_no_values_have_no_spread() -> None:
    assert spread([]) is None


def test_a_difference_is_taken_within_each_round_and_says_where_its_median_lies() -> None:
    machine = [10.0 * number for number in range(100)]  # slower by the round
    ours = [base + number for number, base in enumerate(machine)]

    assert difference(ours, machine) == (49.5, 39, 60)


def test_rate_and_cpu_are_for_each_message() -> None:
    run = Run(messages=2000, seconds=4, cpu_s=0.1)

    assert run.metric("rate") == 500
    assert run.metric("cpu_us") == pytest.approx(50)


def test_a_ratio_is_taken_within_each_round_so_that_drift_cancels() -> None:
    # The machine halves its speed twice; both slow down alike.
    held = rounds((4000, 1000), (2000, 500), (1000, 250))

    found = ratio(held, OURS, THEIRS, "rate")

    assert found is not None
    assert (found.median, found.low, found.high) == (4, 4, 4)


def test_a_round_in_which_one_failed_has_no_ratio() -> None:
    held = [*rounds((4000, 1000)), {OURS: Run(9, 1), THEIRS: Run(error="died")}]

    found = ratio(held, OURS, THEIRS, "rate")

    assert found is not None
    assert found.rounds == 1


def test_a_detail_is_a_metric() -> None:
    held = [{OURS: Run(1, 1, details={"p50": 0.002})}]

    found = metric(held, OURS, "p50")

    assert found is not None
    assert found.median == 0.002


@pytest.mark.parametrize(
    ("ours", "line"),
    [
        (3000, "bar consume/peer: 3 x (required >= 3 x, 1 round): ok"),
        (2990, "bar consume/peer: 2.99 x (required >= 3 x, 1 round): falls short"),
    ],
)
def test_a_lower_limit_is_reached_at_the_limit(ours: int, line: str) -> None:
    judged = judge(FASTER, rounds((ours, 1000)), {})

    assert str(judged) == line


def test_a_bar_says_on_how_many_rounds_it_rests() -> None:
    held = rounds((4000, 1000), (5000, 1000), (0, 1000), (6000, 1000))

    judged = judge(FASTER, held, {})

    assert str(judged) == "bar consume/peer: 5 x (required >= 3 x, 3 rounds): ok"


def test_an_upper_limit_is_overrun_above_it() -> None:
    # Half a second of CPU for 20,000 messages is 25 us; for 10,000 it is 50.
    assert judge(CHEAP, rounds((20_000, 1)), {}).ok is True
    assert judge(CHEAP, rounds((10_000, 1)), {}).ok is False


def test_one_bar_that_falls_short_fails_the_run() -> None:
    good = judge(FASTER, rounds((9000, 1000)), {})
    short = judge(FASTER, rounds((2000, 1000)), {})

    assert exit_code([good]) == 0
    assert exit_code([good, short]) == 1


def test_a_contender_that_failed_in_every_round_falls_short_and_says_why() -> None:
    judged = judge(FASTER, [{OURS: Run(error="no broker"), THEIRS: Run(1, 1)}], {})

    assert exit_code([judged]) == 1
    assert str(judged) == (
        "bar consume/peer: - (required >= 3 x): falls short: rolekit: no broker"
    )


def test_a_peer_that_is_not_installed_is_said_and_fails_nothing() -> None:
    judged = judge(FASTER, [{OURS: Run(1, 1)}], {THEIRS: "gcc is not installed"})

    assert exit_code([judged]) == 0
    assert "not measured: peer: gcc is not installed" in str(judged)
