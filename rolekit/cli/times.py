"""Times on the command line: "2h" ago, or a date and a time of day."""

from __future__ import annotations

import datetime as dt
import re

from rolekit.errors import ConfigError

_AGO = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def time_ms(text: str, now: dt.datetime) -> int:
    """Read a point in time; return milliseconds since 1970.

    Args:
        text: So long ago, such as 90s, 30m, 2h or 3d; or as ISO 8601 has it, in UTC where
            it names no zone.
        now: Aware.

    Raises:
        ConfigError: It is neither.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago:
            seconds = float(ago[1]) * _SECONDS[ago[2]]
            at = now - dt.timedelta(seconds=seconds)
        else:
            at = dt.datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{text!r} is no time.",
            fix="Write how long ago, such as 90s, 30m, 2h or 3d, or 2026-08-22T14:30 (in UTC, "
            "unless it says +02:00).",
        ) from error
    if at.tzinfo is None:
        at = at.replace(tzinfo=dt.UTC)
    return round(at.timestamp() * 1000)
