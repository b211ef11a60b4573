"""When an instance is replaced for its age, or for what it has done: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass

from rolekit.errors import ConfigError

SPREAD = 0.2
"""An instance goes up to so much of its limit early, or all of one start would go at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an instance may come to; None: no limit.

    Attributes:
        age_s: Since it was ready.
        messages: Deliveries settled, or requests answered.
    """

    age_s: float | None = None
    messages: int | None = None

    def reached(self, *, age_s: float, handled: int, draw: float) -> str:
        """Say which limit an instance has reached, or nothing.

        Args:
            age_s: Of the instance.
            handled: By it.
            draw: Randomness, 0 to 1, drawn once for an instance.
        """
        share = 1 - SPREAD * draw
        if self.age_s is not None and age_s >= self.age_s * share:
            return f"{age_s:,.0f} s old, of {self.age_s:,g} s at most"
        if self.messages is not None and handled >= self.messages * share:
            return f"{handled:,} messages handled, of {self.messages:,} at most"
        return ""


def limits(role: str, age_s: object, messages: object) -> Limits:
    """Make limits of what a class or the settings say.

    Args:
        role: Name, for the sentence when they cannot be used.
        age_s: A number above 0, as number or text, or None.
        messages: A whole number above 0, likewise.

    Raises:
        ConfigError: One is something else.
    """
    return Limits(
        age_s=None if age_s is None else _number(role, "max_age_s", age_s),
        messages=None if messages is None else int(_number(role, "max_messages", messages)),
    )


def _number(role: str, name: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    is_whole = name == "max_age_s" or number.is_integer()
    if not 0 < number < float("inf") or not is_whole:
        raise ConfigError(
            f"{role}.{name} is {value!r}; a number above 0 is expected.",
            fix="Change it in the class, or where `rolekit config` says it comes from.",
        )
    return number
