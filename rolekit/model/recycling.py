"""What an instance may come to, and when it is replaced for it: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

START_S = 60.0
"""An instance is ready after so long, or it is not going to be."""
DOMAINS = 5
"""Into so many parts the places of a role are divided, to be renewed one after another."""
LIMITS = ("max_age_s", "max_messages", "max_memory_mb", "start_s")
"""Attributes of a role that are read here, and settings of the same names."""

SPREAD = 0.2
"""An instance goes up to so much of its limit early, or all of one start would go at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an instance may come to; None: no limit.

    Attributes:
        age_s: Since it was ready.
        messages: Deliveries settled, or requests answered.
        memory_mb: Memory that no file backs.
        start_s: From its fork until it is ready; None: `START_S`.
    """

    age_s: float | None = None
    messages: int | None = None
    memory_mb: float | None = None
    start_s: float | None = None

    @property
    def are_any(self) -> bool:
        """Whether an instance can reach one of them once it is ready."""
        return (self.age_s, self.messages, self.memory_mb) != (None, None, None)

    def reached(self, *, age_s: float, handled: int, draw: float, memory_mb: float = 0) -> str:
        """Say which limit an instance has reached, or nothing.

        Args:
            age_s: Of the instance.
            handled: By it.
            draw: Randomness, 0 to 1, drawn once for an instance.
            memory_mb: Of it; whoever leaks reaches the limit at a time of its own.
        """
        share = 1 - SPREAD * draw
        if self.age_s is not None and age_s >= self.age_s * share:
            return f"{age_s:,.0f} s old, of {self.age_s:,g} s at most"
        if self.messages is not None and handled >= self.messages * share:
            return f"{handled:,} messages handled, of {self.messages:,} at most"
        if self.memory_mb is not None and memory_mb >= self.memory_mb:
            return f"{memory_mb:,.0f} MB of memory, of {self.memory_mb:,g} MB at most"
        return ""


def limits(role: str, said: Mapping[str, object]) -> Limits:
    """Make limits of what a class or the settings say.

    Args:
        role: Name, for the sentence when they cannot be used.
        said: Numbers above 0, as number or text, by names of `LIMITS`.

    Raises:
        ConfigError: One is something else.
    """
    numbers = {name: _number(role, name, said[name]) for name in LIMITS if name in said}
    messages = numbers.get("max_messages")
    return Limits(
        age_s=numbers.get("max_age_s"),
        messages=None if messages is None else int(messages),
        memory_mb=numbers.get("max_memory_mb"),
        start_s=numbers.get("start_s"),
    )


def _number(role: str, name: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    is_whole = name != "max_messages" or number.is_integer()
    if not 0 < number < float("inf") or not is_whole:
        raise ConfigError(
            f"{role}.{name} is {value!r}; a number above 0 is expected.",
            fix="Change it in the class, or where `rolekit config` says it comes from.",
        )
    return number
