"""Handlers that take from another program's queue: what does not go together with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rolekit.model.graph import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rolekit.roles.inspect import Found

MAX_BYTES = 255
_ODD = re.compile(r"[\x00-\x1f]")


def problems_of_sources(app: str, found: Iterable[Found]) -> list[Problem]:
    """Say what is wrong with `source=` of handlers."""
    readers: dict[str, Found] = {}
    problems: list[Problem] = []
    for each in found:
        name = each.declared.source
        if not name:
            continue
        first = readers.setdefault(name, each)
        if first is not each:
            what = (
                f"takes from the queue {name}, and so does {first.place}: each would get some."
            )
            problems.append(
                Problem(each.place, what, "Let one handler take both messages: A | B.")
            )
        problems += (Problem(each.place, what, fix) for what, fix in _wrong(app, each))
    return problems


def _wrong(app: str, found: Found) -> Iterator[tuple[str, str]]:
    declared, name = found.declared, found.declared.source
    if declared.marker != "handle":
        yield (
            f"is a @{declared.marker} with source={name!r}, but no position comes from there.",
            "Write a @handle with it; return what it took, and let another handler take that.",
        )
    if any(each.dead for each in found.parameters):
        yield (
            f"takes a DeadLetter from source={name!r}: dead letters are rolekit's own.",
            "Take the message itself, or leave source= out.",
        )
    if name.startswith(f"{app}."):
        yield (
            f"has source={name!r}, which is one of the app's own queues.",
            "Leave source= out: each handler has a queue of its own.",
        )
    if len(name.encode()) > MAX_BYTES or _ODD.search(name):
        yield (
            f"has source={name!r}, which is no name of a queue.",
            f"A name has up to {MAX_BYTES} bytes, without control characters.",
        )
