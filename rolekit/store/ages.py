"""When blobs are old enough to be looked at, and to be dropped.

A message on a broker cannot be searched. It can be delivered for the horizon after its
birth, and what it led to for as long again; so a blob outlives its last use by two horizons
and what replies and a day of the calendar add. What is kept in the store is searched earlier,
a horizon and a day before the end: a blob that is found there was used, so whatever leaves
the store finds it for at least a horizon more.
"""

from __future__ import annotations

from dataclasses import dataclass

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Ages:
    """Ages of blobs.

    Attributes:
        horizon_s: How long a message may still take effect.
        results_s: How long replies are kept.
    """

    horizon_s: float
    results_s: float

    @property
    def _suspect_ms(self) -> int:
        return round((self.horizon_s + self.results_s) * 1000)

    def suspect_before(self, now_ms: int) -> int:
        """Return since when a blob must have been used not to be searched for."""
        return now_ms - self._suspect_ms

    def spent_before(self, now_ms: int, running_since_ms: int) -> int:
        """Return since when a blob must have been used to stay.

        Args:
            now_ms: The time.
            running_since_ms: Since when the app has run for a horizon: days on which nothing
                ran do not make a message too old, nor its blobs.
        """
        earliest_ms = min(now_ms - round(self.horizon_s * 1000), running_since_ms)
        return earliest_ms - self._suspect_ms - DAY_MS
