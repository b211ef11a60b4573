"""What settings say of single handlers, instead of the code: `[handlers."Role.method"]`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from rolekit.config import nearest
from rolekit.errors import AppError, ConfigError
from rolekit.model.policy import Backoff, Circuit, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rolekit.model.plan import AppPlan, HandlerPlan

NUMBERS = {
    "retry": ("attempts", "first_s", "factor", "max_s"),
    "rate": ("limit", "per_s"),
    "circuit": ("failures", "over_s", "at_least", "pause_s"),
}
"""What a setting may change of a policy; the rest of it is code."""
OPTIONS = ("timeout_s", *NUMBERS)
_WHOLE = ("attempts", "at_least")

_Policy = TypeVar("_Policy", Backoff, Rate, Circuit)


def changed_handlers(
    plan: AppPlan, settings: Mapping[str, Mapping[str, str]]
) -> dict[str, HandlerPlan]:
    """Return the handlers of an app with what settings say of them.

    Args:
        plan: As the code has it.
        settings: By handler name, then by option; values as text, tables as JSON.

    Raises:
        ConfigError: There is no such handler or option, or a value cannot be used.
    """
    found = dict(plan.handlers)
    for name, options in settings.items():
        if name not in found:
            raise ConfigError(
                f"Settings name the handler {name}, which the app does not have."
                f"{nearest(name, found)}",
                fix=f"Its handlers are {', '.join(found)}.",
            )
        for option, text in options.items():
            found[name] = _changed(found[name], option, text)
    return found


def _changed(handler: HandlerPlan, option: str, text: str) -> HandlerPlan:
    where = f"handlers.{handler.name}.{option}"
    if option == "timeout_s":
        return replace(handler, timeout_s=_seconds(where, text))
    if option not in NUMBERS:
        raise ConfigError(
            f"{where}: there is no such setting.{nearest(option, OPTIONS)}",
            fix=f"A handler's settings are {', '.join(OPTIONS)}.",
        )
    numbers = _numbers(where, NUMBERS[option], text)
    if option == "retry":
        return replace(handler, retry=(_policy(where, handler.retry, Backoff, numbers),))
    if option == "circuit":
        before = [handler.circuit] if handler.circuit else []
        return replace(handler, circuit=_policy(where, before, Circuit, numbers))
    if any(rate.name for rate in handler.rates):
        raise ConfigError(
            f"{where}: its rate is called {handler.rates[0].name!r} and is shared by name.",
            fix="Change it in the code, for all that share it.",
        )
    return replace(handler, rates=(_policy(where, handler.rates, Rate, numbers),))


def _policy(
    where: str,
    before: Sequence[_Policy],
    kind: Callable[..., _Policy],
    numbers: Mapping[str, Any],
) -> _Policy:
    """Change the numbers of the one policy that is there, or make one of them."""
    if len(before) > 1:
        raise ConfigError(
            f"{where}: the code has {len(before)} policies, and a setting cannot say which.",
            fix="Change them in the code.",
        )
    try:
        if before:
            return replace(before[0], **numbers)
        return kind(**numbers)
    except AppError as error:
        raise ConfigError(f"{where}: {error.what}", fix="Correct the setting.") from error
    except TypeError as error:
        raise ConfigError(
            f"{where} lacks a number that the code does not have either.",
            fix=f"Give all of {', '.join(NUMBERS[where.rpartition('.')[2]])}.",
        ) from error


def _numbers(where: str, known: Sequence[str], text: str) -> dict[str, float]:
    try:
        table: object = json.loads(text)
    except ValueError:
        table = None
    if not isinstance(table, dict):
        raise ConfigError(
            f"{where} is {text}; a table of numbers is expected.",
            fix=f"For example {{{known[0]} = 5}}, with {', '.join(known)}.",
        )
    found: dict[str, float] = {}
    for name, value in cast("dict[str, object]", table).items():
        if name not in known:
            raise ConfigError(
                f"{where}.{name}: there is no such number.{nearest(name, known)}",
                fix=f"Settings may change {', '.join(known)}.",
            )
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or (name in _WHOLE and not isinstance(value, int)):
            expected = "a whole number" if name in _WHOLE else "a number"
            raise ConfigError(
                f"{where}.{name} is {value!r}; {expected} is expected.",
                fix="Correct the setting.",
            )
        found[name] = cast("float", value)
    return found


def _seconds(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value < float("inf"):
        raise ConfigError(
            f"{where} is {text!r}; seconds, more than 0, are expected.",
            fix="Write a number, for example 45.",
        )
    return value
