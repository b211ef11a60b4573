"""The laws of time: what a cron line names, and what becomes of times that were missed."""

from __future__ import annotations

import datetime as dt
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolekit.model.cron import MINUTE, BadCron, Cron, parse
from rolekit.model.timing import LATE_MS, MOST_MISSED, Missed, Timing

pytestmark = pytest.mark.timeout(120)

DAYS = 4
ZONES = {
    "Europe/Berlin": ((2026, 3, 28), (2026, 10, 24)),
    "America/New_York": ((2026, 3, 7), (2026, 10, 31)),
    "Australia/Lord_Howe": ((2026, 4, 4), (2026, 10, 3)),  # clocks go by half an hour
    "Africa/Casablanca": ((2026, 2, 14), (2026, 3, 21)),
    "Pacific/Apia": ((2011, 12, 29), (2011, 12, 28)),  # a day was left out
    "Asia/Kolkata": ((2026, 5, 1), (2026, 12, 30)),
}
LOADED = {name: ZoneInfo(name) for name in ZONES}


def some(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}")
    step = st.integers(1, min(high - low, 6)).map(lambda n: f"*/{n}")
    item = st.one_of(number.map(str), span, step)
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


LINES = st.tuples(
    some(0, 59), st.one_of(st.just("*"), some(0, 23), st.just("1-3")), some(1, 31), some(1, 12),
    some(0, 7),
).map(" ".join)  # fmt: skip
PLACES = st.sampled_from([(zone, day) for zone, days in ZONES.items() for day in days])


def named(cron: Cron, wall: dt.datetime) -> bool:
    """Say what a line names, straight from the sentence in its module."""
    in_month, in_week = wall.day in cron.days, wall.weekday() in cron.weekdays
    both = len(cron.days) < 31 and len(cron.weekdays) < 7
    return (
        wall.minute in cron.minutes
        and wall.hour in cron.hours
        and wall.month in cron.months
        and (in_month or in_week if both else in_month and in_week)
    )


def minute_by_minute(cron: Cron, zone: ZoneInfo, start: dt.datetime) -> list[dt.datetime]:
    """Look at each minute of some days, and at the clocks' times between it and the last."""
    found: list[dt.datetime] = []
    shown: set[dt.datetime] = set()
    goes_on = len(cron.hours) == 24
    before = start.astimezone(zone).replace(tzinfo=None)
    for n in range(1, DAYS * 1440 + 1):
        instant = start + n * MINUTE
        wall = instant.astimezone(zone).replace(tzinfo=None)
        skipped: list[dt.datetime] = []
        while not goes_on and (before := before + MINUTE) < wall:
            skipped.append(before)
        is_first = goes_on or wall not in shown
        if (is_first and named(cron, wall)) or any(named(cron, each) for each in skipped):
            found.append(instant)
        shown.add(wall)
        before = wall
    return found


@settings(max_examples=75)
@given(LINES, PLACES)
def test_a_line_names_the_minutes_that_a_patient_clerk_would(
    line: str, place: tuple[str, tuple[int, int, int]]
) -> None:
    cron, zone = parse_or_any(line), LOADED[place[0]]
    start = dt.datetime(*place[1], tzinfo=dt.UTC)
    end = start + DAYS * 1440 * MINUTE

    timing = Timing(cron=cron, zone=zone)
    instants = (
        dt.datetime.fromtimestamp(ms / 1000, tz=dt.UTC)
        for ms in timing.following(round(start.timestamp() * 1000))
    )

    assert list(takewhile(lambda at: at <= end, instants)) == minute_by_minute(
        cron, zone, start
    )


def parse_or_any(line: str) -> Cron:
    """Read a line; one of a day that never comes becomes one of any day."""
    minute, hour, _, month, week = line.split()
    try:
        return parse(line)
    except BadCron:
        return parse(f"{minute} {hour} * {month} {week}")


def called_every(every_ms: int, missed: Missed) -> Timing:
    return Timing(every_ms=every_ms, missed=missed)


def by_line(line: str, missed: Missed) -> Timing:
    return Timing(cron=parse(line), zone=LOADED["Europe/Berlin"], missed=missed)


MISSED: st.SearchStrategy[Missed] = st.sampled_from(["once", "skip", "all"])
SOME_LINES = ["* * * * *", "*/7 * * * *", "0 3 * * *", "30 2 * * sun", "@monthly"]
TIMINGS = st.one_of(
    st.builds(called_every, st.integers(100, 10**7), MISSED),
    st.builds(by_line, st.sampled_from(SOME_LINES), MISSED),
)
NOWS = st.integers(1_700_000_000_000, 1_900_000_000_000)
GAPS = st.one_of(st.integers(0, 200_000), st.integers(0, 40 * 86_400_000))


@given(TIMINGS, NOWS, GAPS)
def test_what_is_due_lies_between_the_last_look_and_now(
    timing: Timing, start_ms: int, gap_ms: int
) -> None:
    now_ms = start_ms + min(gap_ms, 5000 * (timing.every_ms or 10**9))
    next_ms = timing.next_ms(start_ms)

    due = timing.due(next_ms, now_ms)

    passed = list(takewhile(lambda ms: ms <= now_ms, timing.following(start_ms)))
    most = {"once": 1, "skip": 1, "all": MOST_MISSED}[timing.missed]
    kept = [ms for ms in passed[-most:] if timing.missed != "skip" or now_ms - ms <= LATE_MS]
    assert list(due.fires_ms) == kept
    assert due.next_ms == timing.next_ms(now_ms if passed else start_ms)


@given(TIMINGS, NOWS, st.lists(st.integers(0, 100_000), max_size=8))
def test_looking_often_fires_each_time_once(
    timing: Timing, start_ms: int, steps: list[int]
) -> None:
    next_ms = timing.next_ms(start_ms)
    fired: list[int] = []
    now_ms = start_ms
    for step in steps:
        # As a relay does: it sleeps until the next time is due.
        until_ms = now_ms + min(step, 50 * (timing.every_ms or step))
        while next_ms <= until_ms:
            due = timing.due(next_ms, next_ms)
            fired += due.fires_ms
            next_ms = due.next_ms
        now_ms = until_ms

    assert fired == list(islice(timing.following(start_ms), len(fired)))
    assert not [ms for ms in fired if ms > now_ms]
    assert next_ms > now_ms


@pytest.mark.parametrize("missed", ["once", "skip", "all"])
def test_years_without_anybody_are_made_up_for_at_once(
    missed: Missed,
) -> None:
    timing = Timing(cron=parse("* * * * *"), missed=missed)
    start_ms, now_ms = 1_600_000_000_000, 1_800_000_000_000

    due = timing.due(timing.next_ms(start_ms), now_ms)

    assert len(due.fires_ms) == {"once": 1, "skip": 1, "all": MOST_MISSED}[missed]
    assert due.fires_ms[-1] == now_ms // 60_000 * 60_000
