"""HdrHistograms of latencies in microseconds, with types."""

from __future__ import annotations

from typing import Protocol, cast

from rolekit.errors import ConfigError

HIGHEST_US = 3_600_000_000
"""Longer ones count as this long."""


class Histogram(Protocol):
    """What is used of `hdrh.histogram.HdrHistogram`."""

    @property
    def total_count(self) -> int:
        """Values recorded."""
        ...

    def record_value(self, value: int, /) -> bool:
        """Count one value."""
        ...

    def get_value_at_percentile(self, percentile: float, /) -> int:
        """Return the value that `percentile` percent did not exceed."""
        ...

    def get_max_value(self) -> int:
        """Return the highest."""
        ...

    def get_mean_value(self) -> float:
        """Return the mean."""
        ...

    def encode(self) -> bytes:
        """Return it compressed, in base64: format V2, which all HdrHistograms read."""
        ...


def make(digits: int) -> Histogram:
    """Make an empty one that keeps so many significant digits."""
    try:
        from hdrh.histogram import (  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
            HdrHistogram,
        )
    except ImportError as error:
        raise ConfigError(
            "Load tests need HdrHistogram and plotly.", fix="pip install 'rolekit[load]'"
        ) from error
    return cast("Histogram", HdrHistogram(1, HIGHEST_US, digits))


def record(histogram: Histogram, value_us: int) -> None:
    """Count one latency, which may be 0 or very long."""
    histogram.record_value(min(max(value_us, 1), HIGHEST_US))
