"""Objectives: what must hold for a load test to pass."""

from __future__ import annotations

import re

import msgspec

from rolekit.errors import ConfigError

_LATENCY = re.compile(r"p(\d{1,2}(?:\.\d{1,4})?)|max")
_VALUE = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|%)?")
_US = {"us": 1, "ms": 1000, "s": 1_000_000}
_EXAMPLE = "Write p99=250ms, p99.9=2s, max=5s, errors=0.1% or rate=950."


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """One figure and its bound.

    Attributes:
        text: As it was written.
        name: "p99", "max", "errors" or "rate".
        percentile: Of a latency, 0 to 100; None for the others.
        bound: Latencies: microseconds, at most. Errors: share of 1, at most. Rate: answers
            per second, at least.
    """

    text: str
    name: str
    percentile: float | None
    bound: float


def objective(text: str) -> Objective:
    """Read an objective, such as "p99=250ms".

    Raises:
        ConfigError: It cannot be read.
    """
    name, is_there, value = (part.strip() for part in text.partition("="))
    found = _VALUE.fullmatch(value)
    if not is_there or found is None:
        raise ConfigError(f"{text!r} is not an objective.", fix=_EXAMPLE)
    number, unit = float(found[1]), found[2]
    latency = _LATENCY.fullmatch(name)
    if latency and unit in _US:
        percentile = 100.0 if name == "max" else float(latency[1])
        return Objective(text=text, name=name, percentile=percentile, bound=number * _US[unit])
    if name == "errors" and unit in {"%", None}:
        share = number / 100 if unit else number
        return Objective(text=text, name=name, percentile=None, bound=share)
    if name == "rate" and unit is None:
        return Objective(text=text, name=name, percentile=None, bound=number)
    raise ConfigError(f"{text!r} is not an objective.", fix=_EXAMPLE)
