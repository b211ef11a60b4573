"""What a run is judged by, and the search for the highest rate that passes."""

from __future__ import annotations

import datetime as dt
from importlib import metadata

import msgspec
import pytest

from rolekit.errors import ConfigError
from rolekit.load.arrivals import Constant, Ramp
from rolekit.load.capacity import Trial, find_capacity
from rolekit.load.client import Told
from rolekit.load.report import page
from rolekit.load.result import Checked, Recorder, Result, RoleSeen, Seen, versions
from rolekit.load.scenario import Http, Scenario
from rolekit.load.verdict import duration, judge

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
SCENARIO = Scenario(
    entry=Http(url="http://nowhere/"), arrival=Constant(rate=100), for_s=10, warm_up_s=1
)


def recorded(
    *, slow: int = 0, failed: int = 0, scenario: Scenario = SCENARIO
) -> tuple[Recorder, Result]:
    """A run of 1,000 requests of 2 ms; some slow (1 s), some failed."""
    recorder = Recorder(scenario)
    for number in range(1000):
        is_failed = number >= 1000 - failed
        took_us = 1_000_000 if number % 100 < slow else 2_000
        recorder.take(
            0,
            Told(
                due_us=[number * 10_000],
                took_us=[took_us],
                end=[int(is_failed)],
                ways=["HTTP 503"],
                ids=[(0, number, f"m{number}", "")],
            ),
        )
    return recorder, recorder.result("run", NOON, "")


def judged(result: Result, recorder: Recorder) -> list[str]:
    judge(result, recorder.total, recorder.scenario.wanted)
    return result.reasons


def test_a_run_without_fault_passes_and_leaves_out_its_warm_up() -> None:
    recorder, result = recorded()

    assert judged(result, recorder) == []
    assert (result.due, result.answered, result.failed) == (900, 900, 0)
    assert result.rate == pytest.approx(100)
    assert result.at(99) == pytest.approx(2000, rel=0.01)
    assert len(recorder.ids) == 1000


@pytest.mark.parametrize(
    ("objectives", "slow", "failed", "reasons"),
    [
        ({"p99": "250ms"}, 5, 0, ["p99=250ms was missed: 1 s."]),
        ({"p90": "250ms"}, 5, 0, []),
        ({"max": "0.5s"}, 1, 0, ["max=0.5s was missed: 1 s."]),
        ({"rate": "200"}, 0, 0, ["rate=200 was missed: 100.0."]),
        ({}, 0, 9, []),
        ({}, 0, 10, ["errors=1% (if nothing is said) was missed: 1.111%."]),
        ({"errors": "2%"}, 0, 10, []),
    ],
)
def test_an_objective_that_was_missed_fails_the_run(
    objectives: dict[str, str], slow: int, failed: int, reasons: list[str]
) -> None:
    scenario = msgspec.structs.replace(SCENARIO, objectives=objectives)
    recorder, result = recorded(slow=slow, failed=failed, scenario=scenario)

    assert judged(result, recorder) == reasons


def test_what_a_check_finds_fails_the_run() -> None:
    recorder, result = recorded()
    result.checked = Checked(lost=1, out_of_order=1200)

    assert judged(result, recorder) == ["1 lost.", "1,200 out of order."]


def test_what_is_left_and_what_died_since_fails_the_run() -> None:
    recorder, result = recorded()
    role = RoleSeen(role="A", running=1, waiting=0, in_hand=0, oldest_s=None, dead=3)
    after = msgspec.structs.replace(role, waiting=2, in_hand=1, dead=5)
    new = msgspec.structs.replace(role, role="B", waiting=1, dead=1)
    result.seen = [Seen(at_s=0, roles=(role,)), Seen(at_s=10, roles=(after, new))]

    assert judged(result, recorder) == [
        "A has 2 dead letters more than before.",
        "A has 3 messages left that it did not get done.",
        "B has 1 dead letter more than before.",
        "B has 1 message left that it did not get done.",
    ]


def test_a_client_that_was_late_by_itself_is_told_of() -> None:
    recorder, result = recorded()
    result.late_us = 50_000

    judged(result, recorder)

    assert "up to 50 ms behind its schedule" in result.warnings[0]


def test_answers_count_in_the_second_in_which_they_come() -> None:
    recorder = Recorder(SCENARIO)

    recorder.take(0, Told(due_us=[1_900_000], took_us=[2_000_000], end=[0]))
    result = recorder.result("run", NOON, "")

    assert [(second.due, second.answered) for second in result.seconds] == [
        (0, 0), (1, 0), (0, 0), (0, 1),
    ]  # fmt: skip
    assert result.seconds[1].p99_us == pytest.approx(2_000_000, rel=0.02)
    assert result.seconds[3].p99_us is None


@pytest.fixture
def passing() -> Result:
    return recorded()[1]


@pytest.mark.anyio
async def test_the_highest_rate_that_passes_is_found(passing: Result) -> None:
    async def attempt(scenario: Scenario) -> Result:
        assert isinstance(scenario.arrival, Constant)
        result = msgspec.structs.replace(passing, reasons=[])
        if scenario.arrival.rate > 730:
            result.reasons.append("p99=1s was missed: 2 s.")
        return result

    trials: list[Trial] = []
    scenario = msgspec.structs.replace(SCENARIO, objectives={"p99": "1s"})
    _, found = await find_capacity(scenario, attempt, trials.append)

    best = max(trial.rate for trial in found if trial.is_passed)
    assert 730 / 1.05 <= best <= 730
    assert trials == found
    assert len(found) < 12


@pytest.mark.anyio
async def test_a_rate_that_never_passes_ends_the_search(passing: Result) -> None:
    async def attempt(_: Scenario) -> Result:
        return msgspec.structs.replace(passing, reasons=["No."])

    scenario = msgspec.structs.replace(SCENARIO, objectives={"p99": "1s"})
    result, trials = await find_capacity(scenario, attempt, lambda _: None)

    assert not result.is_passed
    assert not any(trial.is_passed for trial in trials)
    assert trials[-1].rate < 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        (SCENARIO, "there is none"),
        (
            msgspec.structs.replace(SCENARIO, arrival=Ramp(start=1, end=2)),
            "cannot be found with the law 'ramp'",
        ),
    ],
)
async def test_a_search_that_cannot_be_is_refused(scenario: Scenario, said: str) -> None:
    async def attempt(scenario: Scenario) -> Result:
        raise AssertionError(scenario)

    with pytest.raises(ConfigError, match=said):
        await find_capacity(scenario, attempt, lambda _: None)


def test_nothing_in_a_result_ends_the_script_it_stands_in() -> None:
    recorder, result = recorded()
    judged(result, recorder)
    result.name = "</script><b>"
    result.ends = {"</script><script>alert(1)</script>": 1}

    made = page(result, [])

    assert made.count("</script>") == 2
    assert "<title>&lt;/script&gt;" in made


@pytest.mark.parametrize(
    ("value_us", "text"),
    [
        (250, "250 µs"),
        (1500, "1.5 ms"),
        (999_600, "1 s"),
        (36_000_000, "36 s"),
        (7.2e9, "7,200 s"),
    ],
)
def test_durations_are_written_as_people_do(value_us: float, text: str) -> None:
    assert duration(value_us) == text


@pytest.mark.parametrize(
    ("database", "broker", "drivers"),
    [
        pytest.param("", "", set[str](), id="nothing is watched"),
        pytest.param("postgresql:///a", "", {"asyncpg"}, id="Postgres alone"),
        pytest.param("postgresql:///a", "amqp://b", {"asyncpg", "aio-pika"}, id="RabbitMQ"),
    ],
)
def test_a_report_says_the_versions_of_the_drivers_that_took_part(
    database: str, broker: str, drivers: set[str]
) -> None:
    found = versions(database, broker)

    assert {name: found.get(name) for name in drivers} == {
        name: metadata.version(name) for name in drivers
    }
    assert set(found) - {"rolekit", "Python", "database", "broker"} == drivers
