"""Whether the rates of an app's handlers fit the messages that they take, and one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_type_hints

from rolekit.model.graph import Problem
from rolekit.model.keys import unfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rolekit.model.policy import Rate
    from rolekit.roles.inspect import Found


def problems_of_rates(found: Iterable[Found]) -> Iterator[Problem]:
    """Find rates by what no message has, and buckets that are called alike and are not."""
    named: dict[str, tuple[str, Rate]] = {}
    for each in found:
        for rate in each.plan.rates:
            yield from _of_classes(each, rate)
            if not rate.name:
                continue
            place, other = named.setdefault(rate.name, (each.place, rate))
            if (other.limit, other.per_s) != (rate.limit, rate.per_s):
                yield Problem(
                    each.place,
                    f"has a rate called {rate.name!r} of {rate.limit:g} in {rate.per_s:g} s, "
                    f"but {place} has one of {other.limit:g} in {other.per_s:g} s.",
                    "What is called alike is one bucket: make one Rate, and give it to both.",
                )
        if len(set(each.plan.rates)) < len(each.plan.rates):
            yield Problem(each.place, "has the same rate twice.", "Leave one of them out.")


def _of_classes(found: Found, rate: Rate) -> Iterator[Problem]:
    dead = [cls for each in found.parameters for cls in each.dead]
    for option in ("key", "cost"):
        name = getattr(rate, option)
        if name is None:
            continue
        if found.plan.kind == "gather":
            yield Problem(
                found.place,
                f"has a rate with {option}= and is a @gather, which is called with runs.",
                f"Leave {option}= out: its rate counts calls, and a run has no fields. A rate "
                "by what parts say goes on the handler that gives them.",
            )
            continue
        if dead:
            yield Problem(
                found.place,
                f"has a rate with {option}= and takes dead letters.",
                f"Leave {option}= out: a dead letter has no fields of its own.",
            )
        for cls in found.plan.takes:
            why = unfit(cls, name) if option == "key" else _uncounted(cls, name)
            if why:
                yield Problem(
                    found.place,
                    f"has a rate with {option}={name!r} and takes {cls.__name__}, {why}.",
                    "Name a field or property that every message it takes has.",
                )


def _uncounted(cls: type, name: str) -> str:
    """Say why a field or property cannot be a cost, or nothing when it can."""
    found: object = getattr(cls, name, None)
    hints = _hints(found.fget if isinstance(found, property) else cls)
    if isinstance(found, property):
        hint: object = hints.get("return", int)
    elif name in hints and not name.startswith("_"):
        hint = hints[name]
    else:
        fields = ", ".join(each for each in hints if not each.startswith("_"))
        return f"which has no such field or property, only {fields or 'none'}"
    return "" if hint in (int, float, int | float) else "where it is no number"


def _hints(of: Any) -> dict[str, Any]:  # noqa: ANN401 - a class or a function
    try:
        return get_type_hints(of)
    except (NameError, TypeError, AttributeError):
        hints = dict(getattr(of, "__annotations__", {}))
        return {n: {"int": int, "float": float}.get(h, h) for n, h in hints.items()}
