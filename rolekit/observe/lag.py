"""A line in the log where the event loop stood still: heartbeats starve, brokers hang up."""

from __future__ import annotations

import math

import structlog

log = structlog.get_logger("rolekit.loop")

TELL_S = 5.0
"""Told from here on, seconds: a quarter of the heartbeat that is agreed on with a broker,
which gives a connection up after two of them."""
QUIET_S = 60.0
"""Between two lines."""


class LagLog:
    """Says when the loop of this process was held up, once in a while."""

    def __init__(self) -> None:
        self._told_at_s = -math.inf
        self._untold: list[float] = []

    def note(self, lag_s: float, now_s: float) -> None:
        """Take how late a timer ran, and say so if that is too late.

        Args:
            lag_s: So much.
            now_s: By the clock of the loop.
        """
        if lag_s >= TELL_S:
            self._untold.append(lag_s)
        if not self._untold or now_s - self._told_at_s < QUIET_S:
            return
        log.warning(
            "the event loop stood still; brokers hang up on who is silent for long. Look for a "
            "call that blocks in an async handler: a def handler runs in a thread",
            for_s=round(max(self._untold), 1),
            times=len(self._untold),
        )
        self._untold.clear()
        self._told_at_s = now_s
