"""Cron lines: which minutes they name, and which instants those are in a time zone.

A line has five fields: minute, hour, day of month, month, day of week. A field is `*`, a
number, a name (jan, mon), a range `a-b`, any of these with a step (`*/15`, `9-17/2`), or
several with commas. Where both days are limited, either of them is enough. Days of the week
are 0 to 7; 0 and 7 are Sunday.

Where clocks are set forward, a time that does not exist is the next instant that does;
where they are set back, a time that comes twice is the first of the two. A line that names
every hour means an interval, and goes by the hours that there are: none is made up for, and
the one that comes twice counts twice.

Source: crontab(5) of Vixie cron, and its treatment of wildcard jobs.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import product

MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
YEARS = 12
"""29 February comes again within eight years, also around 2100."""

_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
_WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_SUNDAY = 7
_LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class BadCron(Exception):
    """A line that says nothing, or nothing that ever comes.

    Attributes:
        fix: What to write instead; may be empty.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: dict[str, int]


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, _SUNDAY, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """The minutes that a line names, whatever the time zone.

    Attributes:
        line: As it was written.
        minutes: Of the hour, ascending; so `hours`.
        days: Of the month.
        months: From 1.
        weekdays: From Monday, 0, as `date.weekday` has them.
    """

    line: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def next_after(self, after: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
        """Return the first instant behind `after` that this line names.

        Args:
            after: An aware time.
            zone: Whose clocks the line goes by.

        Returns:
            An aware time in UTC.
        """
        if len(self.hours) == 24:  # noqa: PLR2004 - hours of a day
            return self._next_minute(after, zone)
        local = after.astimezone(zone).replace(tzinfo=None)
        day = local.date()
        while True:
            day = self._day_from(day)
            for hour, minute in product(self.hours, self.minutes):
                wall = dt.datetime.combine(day, dt.time(hour, minute))
                # Times of the clock come in the order of their instants.
                if wall > local and (instant := instant_of(wall, zone)) > after:
                    return instant
            day += DAY

    def _next_minute(self, after: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
        """Go by the minutes that there are."""
        instant = after.astimezone(dt.UTC).replace(second=0, microsecond=0) + MINUTE
        while True:
            local = instant.astimezone(zone)
            day = self._day_from(local.date())
            if day != local.date():
                instant = instant_of(dt.datetime.combine(day, dt.time()), zone)
            elif local.minute in self.minutes:
                return instant
            else:
                instant += MINUTE

    def _day_from(self, day: dt.date) -> dt.date:
        """Return the first day, this one or a later one, that the line names."""
        for _ in range(YEARS * 366):
            if self._has(day):
                return day
            day += DAY
        raise BadCron(f"{self.line!r} names no day in {YEARS} years.")

    def _has(self, day: dt.date) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.weekday() in self.weekdays
        if _is_limited(self.days, 31) and _is_limited(self.weekdays, 7):
            return in_month or in_week
        return in_month and in_week


def parse(line: str) -> Cron:
    """Read a line.

    Raises:
        BadCron: It is none, or names a time that never comes.
    """
    fields = _NICKNAMES.get(line.strip().lower(), line).split()
    if line.strip().startswith("@") and fields == line.split():
        raise BadCron(
            f"{line!r} is no name of a time.",
            f"There are {', '.join(_NICKNAMES)}; for so many seconds apart, @every(seconds).",
        )
    if len(fields) != len(_FIELDS):
        raise BadCron(
            f"{line!r} has {len(fields)} field{'' if len(fields) == 1 else 's'}; five are "
            "expected: minute, hour, day of month, month, day of week.",
            'For example "0 3 * * *": at 3 each night. Seconds are not among them; see @every.',
        )
    minutes, hours, days, months, weekdays = map(_values, _FIELDS, fields)
    cron = Cron(
        line=" ".join(line.split()),
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset((day - 1) % 7 for day in weekdays),
    )
    _check_comes(cron)
    return cron


def instant_of(wall: dt.datetime, zone: dt.tzinfo) -> dt.datetime:
    """Return the instant, in UTC, at which clocks in a zone show a time.

    Of two, the first. A time that clocks skip is the instant at which they skip it.
    """
    first = wall.replace(tzinfo=zone).astimezone(dt.UTC)
    if first.astimezone(zone).replace(tzinfo=None) == wall:
        return first
    # In the gap, fold=0 counts by the offset before it and fold=1 by the one behind it: the
    # one instant lies behind the jump and the other before it.
    later, earlier = first, wall.replace(tzinfo=zone, fold=1).astimezone(dt.UTC)
    while later - earlier > dt.timedelta(seconds=1):
        middle = earlier + dt.timedelta(seconds=(later - earlier) // dt.timedelta(seconds=2))
        if middle.astimezone(zone).replace(tzinfo=None) > wall:
            later = middle
        else:
            earlier = middle
    return later


def _values(field: _Field, text: str) -> set[int]:
    found: set[int] = set()
    for item in text.split(","):
        found |= _item(field, text, item)
    return found


def _item(field: _Field, text: str, item: str) -> set[int]:
    span, slash, step_text = item.partition("/")
    low, high = field.low, field.high
    if span != "*":
        first, dash, last = span.partition("-")
        low = high = _number(field, text, first)
        if dash:
            high = _number(field, text, last)
            if field.names is _WEEKDAYS and high == 0:
                high = _SUNDAY
        if low > high:
            raise BadCron(
                f"the {field.name} is {text!r}, and {span} goes down.",
                f"Write two ranges: {first}-{field.high},{field.low}-{last}.",
            )
        if slash and not dash:
            raise BadCron(
                f"the {field.name} is {text!r}, where a step follows a single number.",
                f"Say from where to where: {first}-{field.high}/{step_text}.",
            )
    elif field.names is _WEEKDAYS:
        high = _SUNDAY - 1
    step = _step(field, text, step_text, max(high - low, 1)) if slash else 1
    return set(range(low, high + 1, step))


def _step(field: _Field, text: str, step: str, longest: int) -> int:
    number = int(step) if step.isascii() and step.isdigit() and len(step) < 4 else 0  # noqa: PLR2004 - as below
    if not 1 <= number <= longest:
        raise BadCron(
            f"the {field.name} is {text!r}; its step must be 1 to {longest}, "
            "since it begins anew with each span.",
            "For so many seconds apart, whatever the clock says, there is @every(seconds).",
        )
    return number


def _number(field: _Field, text: str, word: str) -> int:
    number = field.names.get(word.lower())
    if number is None:
        number = int(word) if word.isascii() and word.isdigit() and len(word) < 4 else -1  # noqa: PLR2004 - enough for all
    if field.low <= number <= field.high:
        return number
    names = f", or {', '.join(field.names)}" if field.names else ""
    raise BadCron(
        f"the {field.name} is {text!r}, and {word!r} is not {field.low} to {field.high}"
        f"{names}.",
        "A field is *, a number, a range 1-5, a step */15 or 9-17/2, or several with commas."
        + (" Write * for any." if word == "?" else ""),
    )


def _check_comes(cron: Cron) -> None:
    """Refuse a day of the month that no month has, where no day of the week helps."""
    if _is_limited(cron.weekdays, 7) or any(
        day <= _LONGEST.get(month, 31) for day in cron.days for month in cron.months
    ):
        return
    raise BadCron(
        f"{cron.line!r} never comes: no month that it names has such a day.",
        "Correct the day of month (the third field) or the month (the fourth).",
    )


def _is_limited(values: frozenset[int], every: int) -> bool:
    return len(values) < every
