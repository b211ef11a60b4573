"""Whether the keys of an app's handlers fit the messages that they take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.model.graph import Problem
from rolekit.model.keys import MAX_PARTITIONS, unfit
from rolekit.roles.worker import WorkerRole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rolekit.roles.base import Role
    from rolekit.roles.inspect import Found


def partitions_of(roles: Iterable[type[Role]], found: Iterable[Found]) -> dict[str, int]:
    """Say into how many partitions the keys of each role are divided that has any."""
    keyed = {each.plan.role for each in found if each.plan.key}
    return {
        role.__name__: role.partitions
        for role in roles
        if role.__name__ in keyed and issubclass(role, WorkerRole)
    }


def problems_of_keys(roles: Iterable[type[Role]], found: Iterable[Found]) -> Iterator[Problem]:
    """Find keys that no message has, and what does not go with a key."""
    found = list(found)
    for each in found:
        if each.plan.key:
            yield from _of_options(each)
            yield from _of_classes(each)
        elif each.declared.marker == "handle" and each.declared.says_on_dead:
            yield Problem(
                each.place,
                f"has on_dead={each.declared.on_dead!r} and no key; on_dead says what a key "
                "does with a message that died.",
                "Leave it out, or name the key: @handle(key=...).",
            )
    counts = partitions_of(roles, found)
    for name, count in counts.items():
        if type(count) is not int or not 1 <= count <= MAX_PARTITIONS:
            yield Problem(
                name,
                f"has partitions = {count!r}; a number from 1 to {MAX_PARTITIONS} is expected.",
                "Take a few times as many as it will ever have instances.",
            )


def _of_options(found: Found) -> Iterator[Problem]:
    key = found.plan.key
    if any(type(name) is not str or not name.isidentifier() for name in key):
        yield Problem(
            found.place,
            f"has key={key!r}; names of fields or properties are expected.",
            'Write key="customer_id", or key=("tenant", "customer_id").',
        )
    if any(each.role == "batch" for each in found.parameters):
        yield Problem(
            found.place,
            "takes a Batch and has a key; the messages of one key come one by one.",
            "Take one message, or leave the key out.",
        )
    if found.declared.source:
        yield Problem(
            found.place,
            "has source= and key=; the queue of another program has no partitions.",
            "Return the messages from a handler without key to a keyed one.",
        )


def _of_classes(found: Found) -> Iterator[Problem]:
    names = [name for name in found.plan.key if type(name) is str and name.isidentifier()]
    dead = [cls for each in found.parameters for cls in each.dead]
    for cls in dict.fromkeys((*found.plan.takes, *dead)):
        for name in names:
            why = unfit(cls, name)
            if why:
                yield Problem(
                    found.place,
                    f"has key={name!r} and takes {cls.__name__}, {why}.",
                    "Name a field or property that every message it takes has.",
                )
