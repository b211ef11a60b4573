"""What `@cron` and `@every` were told, read once at start."""

from __future__ import annotations

import datetime as dt
import math
import zoneinfo
from difflib import get_close_matches
from typing import TYPE_CHECKING

from rolekit.model.cron import BadCron, parse
from rolekit.model.timing import Timing
from rolekit.roles.annotations import Unreadable

if TYPE_CHECKING:
    from rolekit.roles.declare import Declared

SHORTEST_S = 0.1
LONGEST_S = 10 * 365 * 86_400.0
_MISSED = ("once", "skip", "all")


def timing_of(declared: Declared) -> Timing | None:
    """Return when a handler is called; None: when a message comes.

    Raises:
        Unreadable: It is a time that never comes, or none.
    """
    if declared.marker == "every":
        return Timing(every_ms=_every_ms(declared.seconds))
    if declared.marker != "cron":
        return None
    if declared.missed not in _MISSED:
        raise Unreadable(
            f"@cron(missed={declared.missed!r}): missed must be one of "
            f"{', '.join(map(repr, _MISSED))}.",
            "It says what to do with times that passed while nothing ran.",
        )
    try:
        line = parse(declared.when)
    except BadCron as bad:
        raise Unreadable(f"@cron: {bad}", bad.fix) from None
    return Timing(
        cron=line, zone=_zone(declared.tz), zone_name=declared.tz, missed=declared.missed
    )


def _every_ms(seconds: object) -> int:
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not math.isfinite(seconds)
        or not SHORTEST_S <= seconds <= LONGEST_S
    ):
        raise Unreadable(
            f"@every({seconds!r}): {SHORTEST_S:g} seconds or more are expected.",
            "What must go on all the time is a loop in the role's own run().",
        )
    return round(seconds * 1000)


def _zone(name: str) -> dt.tzinfo:
    if name == "UTC":
        return dt.UTC  # known also where there is no time zone data
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        known = zoneinfo.available_timezones()
        if not known:
            raise Unreadable(
                f"@cron(tz={name!r}): this host has no time zone data.",
                "Install the package tzdata, of the system or from PyPI.",
            ) from None
        by_fold = {one.casefold(): one for one in known}
        close = get_close_matches(str(name).casefold(), by_fold, n=1)
        guess = f"Did you mean {by_fold[close[0]]}? " if close else ""
        raise Unreadable(
            f"@cron(tz={name!r}): there is no such time zone.",
            f'{guess}Zones are named as "Europe/Berlin".',
        ) from None
