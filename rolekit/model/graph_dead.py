"""Who is told of dead letters, and what does not fit about it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from rolekit.model.plan import HandlerPlan


def told(plans: Iterable[HandlerPlan]) -> dict[type, tuple[str, ...]]:
    """List the handlers that are told of dead letters, by class of the message that died."""
    found: dict[type, tuple[str, ...]] = {}
    for plan in plans:
        for cls in plan.dead:
            found[cls] = (*found.get(cls, ()), plan.name)
    return found


def check_told(
    plans: Mapping[str, HandlerPlan],
    destinations: Mapping[type, tuple[str, ...]],
    opens: Collection[str],
    complain: Callable[[str, str, str], None],
) -> None:
    """Complain of handlers that would never be told, or could not place what they give.

    Args:
        plans: All handlers, by name.
        destinations: Who takes which message.
        opens: Handlers whose results a gather receives.
        complain: Takes where, what was found, and what to do.
    """
    mortal = {
        cls
        for cls, names in destinations.items()
        if any(plans[name].kind == "handle" for name in names)
    }
    for plan in plans.values():
        where = f"{plan.role}.{plan.method}"
        for cls in plan.dead:
            if cls not in mortal:
                complain(where, *_never_dies(cls, mortal))
        if plan.dead and plan.name in opens:
            complain(
                where,
                "takes a DeadLetter, and a gather receives what it splits into: of a message "
                "that died there is none to gather beside.",
                "Handle the DeadLetter in a method of its own.",
            )


def _never_dies(cls: type, mortal: Iterable[type]) -> tuple[str, str]:
    names = sorted(each.__name__ for each in mortal)
    close = get_close_matches(cls.__name__, names, n=1)
    guess = f"Did you mean DeadLetter[{close[0]}]? " if close else ""
    found = (
        f"takes DeadLetter[{cls.__name__}], but nobody handles {cls.__name__}, so it never "
        "becomes a dead letter."
    )
    return found, f"{guess}Name a message that a handler takes."
