"""Cron lines: what they name, and the sentences for those that name nothing."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from rolekit.model.cron import BadCron, parse

BERLIN = ZoneInfo("Europe/Berlin")


def next_times(line: str, start: str, count: int = 3) -> list[str]:
    """List the next local times in Berlin, with their offsets."""
    cron, at = parse(line), dt.datetime.fromisoformat(start).astimezone(BERLIN)
    found: list[str] = []
    for _ in range(count):
        at = cron.next_after(at, BERLIN)
        found.append(at.astimezone(BERLIN).isoformat(timespec="minutes"))
    return found


@pytest.mark.parametrize(
    ("line", "start", "times"),
    [
        (
            "0 3 * * *",
            "2026-01-31T02:59:59+01:00",
            ["2026-01-31T03:00+01:00", "2026-02-01T03:00+01:00", "2026-02-02T03:00+01:00"],
        ),
        (
            "0 3 * * *",
            "2026-01-31T03:00:00+01:00",
            ["2026-02-01T03:00+01:00", "2026-02-02T03:00+01:00", "2026-02-03T03:00+01:00"],
        ),
        (
            "*/20 9-10 * * MON-fri",
            "2026-05-01T10:30+02:00",
            ["2026-05-01T10:40+02:00", "2026-05-04T09:00+02:00", "2026-05-04T09:20+02:00"],
        ),
        (
            "0 12 13 * fri",
            "2026-02-14T00:00+01:00",
            ["2026-02-20T12:00+01:00", "2026-02-27T12:00+01:00", "2026-03-06T12:00+01:00"],
        ),
        (
            "0 0 29 feb *",
            "2026-01-01T00:00+01:00",
            ["2028-02-29T00:00+01:00", "2032-02-29T00:00+01:00", "2036-02-29T00:00+01:00"],
        ),
        (
            "@weekly",
            "2026-11-26T00:00+01:00",
            ["2026-11-29T00:00+01:00", "2026-12-06T00:00+01:00", "2026-12-13T00:00+01:00"],
        ),
        (
            "0 8 * * fri-sun",
            "2026-11-26T00:00+01:00",
            ["2026-11-27T08:00+01:00", "2026-11-28T08:00+01:00", "2026-11-29T08:00+01:00"],
        ),
    ],
)
def test_a_line_names_times(line: str, start: str, times: list[str]) -> None:
    assert next_times(line, start) == times


def test_a_time_that_clocks_skip_is_when_they_skip_it() -> None:
    assert next_times("30 2 * * *", "2026-03-28T12:00+01:00", 2) == [
        "2026-03-29T03:00+02:00",
        "2026-03-30T02:30+02:00",
    ]
    assert next_times("*/20 2 * * *", "2026-03-28T12:00+01:00", 2) == [
        "2026-03-29T03:00+02:00",
        "2026-03-30T02:00+02:00",
    ]


def test_a_time_that_comes_twice_is_the_first_of_the_two() -> None:
    assert next_times("30 2 * * *", "2026-10-24T12:00+02:00", 2) == [
        "2026-10-25T02:30+02:00",
        "2026-10-26T02:30+01:00",
    ]


def test_each_hour_means_an_hour_apart_also_when_clocks_change() -> None:
    assert next_times("30 * * * *", "2026-10-25T01:00+02:00", 4) == [
        "2026-10-25T01:30+02:00",
        "2026-10-25T02:30+02:00",
        "2026-10-25T02:30+01:00",
        "2026-10-25T03:30+01:00",
    ]
    assert next_times("30 * * * *", "2026-03-29T01:00+01:00", 2) == [
        "2026-03-29T01:30+01:00",
        "2026-03-29T03:30+02:00",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0 31 2 *", "never comes"),
        ("0 0 31 feb,apr,jun *", "never comes"),
        ("* * * *", "4 fields"),
        ("0 * * * * *", "6 fields"),
        ("", "0 fields"),
        ("@reboot", "no name of a time"),
        ("60 * * * *", "'60' is not 0 to 59"),
        ("* 24 * * *", "'24' is not 0 to 23"),
        ("* * 0 * *", "'0' is not 1 to 31"),
        ("* * * 13 *", "'13' is not 1 to 12"),
        ("* * * * 8", "'8' is not 0 to 7"),
        ("* * * * mun", "'mun' is not 0 to 7, or sun, mon"),
        ("? * * * *", "'?' is not"),
        ("* * L * *", "'L' is not"),
        ("5/15 * * * *", "a step follows a single number"),
        ("*/90 * * * *", "its step must be 1 to 59"),
        ("*/0 * * * *", "its step must be 1 to 59"),
        ("*/x * * * *", "its step must be 1 to 59"),
        ("* 22-3 * * *", "22-3 goes down"),
        ("1, * * * *", "'' is not 0 to 59"),
        ("1-2-3 * * * *", "'2-3' is not"),
        ("9" * 5000 + " * * * *", "is not 0 to 59"),
        ("*/" + "9" * 5000 + " * * * *", "its step must be"),
    ],
)
def test_what_names_nothing_is_refused_with_a_sentence(line: str, said: str) -> None:
    with pytest.raises(BadCron) as refused:
        parse(line)

    assert said in str(refused.value)
    assert refused.value.fix
