"""The pipeline as a drawing: roles in columns, messages between them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rolekit.model.plan import AppPlan

OUTSIDE = ""
"""What messages come from that no role makes, and what answers go to."""


class Arrow(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that go from one role to another.

    Attributes:
        sender, taker: Roles, or `OUTSIDE`.
        names: Of the messages, in the order in which handlers declare them.
        is_split: Whether one call may make many of them.
    """

    sender: str
    taker: str
    names: tuple[str, ...]
    is_split: bool = False


class Handling(msgspec.Struct, frozen=True, kw_only=True):
    """One handler: its name, whether it gathers, and what it takes."""

    name: str
    kind: str
    takes: tuple[str, ...]


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A role, where it stands, and its handlers."""

    role: str
    column: int
    row: int
    handlers: tuple[Handling, ...]


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def draw(plan: AppPlan, roles: Iterable[str]) -> Drawing:
    """Draw an app.

    Args:
        plan: What its handlers take and make.
        roles: All of its roles, those without handlers too.
    """
    arrows = tuple(_arrows(plan))
    names = list(dict.fromkeys([*roles, *(one.role for one in plan.handlers.values())]))
    columns = _columns(names, arrows)
    rows = _rows(columns, arrows)
    return Drawing(
        boxes=tuple(
            Box(
                role=name,
                column=columns[name],
                row=rows[name],
                handlers=tuple(
                    Handling(
                        name=one.method,
                        kind=one.kind,
                        takes=tuple(
                            plan.wire_names.get(cls, cls.__name__) for cls in one.takes
                        ),
                    )
                    for one in plan.of_role(name)
                ),
            )
            for name in names
        ),
        arrows=arrows,
    )


def _arrows(plan: AppPlan) -> Iterable[Arrow]:
    found: dict[tuple[str, str], tuple[dict[str, None], bool]] = {}

    def add(sender: str, taker: str, cls: type, *, is_split: bool) -> None:
        names, split = found.setdefault((sender, taker), ({}, False))
        names[plan.wire_names.get(cls, cls.__name__)] = None
        found[sender, taker] = (names, split or is_split)

    made: set[type] = set()
    for handler in plan.handlers.values():
        for cls in dict.fromkeys((*handler.returns, *handler.sends)):
            made.add(cls)
            takers = plan.destinations.get(cls, ())
            is_split = handler.shape != "one" and cls in handler.returns
            for taker in takers:
                add(handler.role, plan.handlers[taker].role, cls, is_split=is_split)
            if not takers:
                add(handler.role, OUTSIDE, cls, is_split=is_split)
    for cls, takers in plan.destinations.items():
        if cls not in made:
            for taker in takers:
                add(OUTSIDE, plan.handlers[taker].role, cls, is_split=False)
    for (sender, taker), (names, is_split) in found.items():
        yield Arrow(sender=sender, taker=taker, names=tuple(names), is_split=is_split)


def _columns(names: list[str], arrows: tuple[Arrow, ...]) -> dict[str, int]:
    """Give each role the column behind the last that sends to it; circles are cut open."""
    after: dict[str, list[str]] = {name: [] for name in names}
    for arrow in arrows:
        if OUTSIDE not in (arrow.sender, arrow.taker) and arrow.sender != arrow.taker:
            after[arrow.sender].append(arrow.taker)
    forward = _without_circles(names, after)
    columns = dict.fromkeys(names, 0)
    for name in _sorted_by_flow(names, forward):
        for taker in forward[name]:
            columns[taker] = max(columns[taker], columns[name] + 1)
    return columns


def _without_circles(names: list[str], after: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Leave out what leads back to where the walk came from."""
    kept: dict[str, list[str]] = {name: [] for name in names}
    state: dict[str, int] = {}
    for root in names:
        if root in state:
            continue
        state[root] = 1
        walk = [(root, iter(after[root]))]
        while walk:
            name, rest = walk[-1]
            taker = next(rest, None)
            if taker is None:
                state[name] = 2
                walk.pop()
            elif state.get(taker) != 1:
                kept[name].append(taker)
                if taker not in state:
                    state[taker] = 1
                    walk.append((taker, iter(after[taker])))
    return kept


def _sorted_by_flow(names: list[str], forward: Mapping[str, list[str]]) -> list[str]:
    waits_for = dict.fromkeys(names, 0)
    for takers in forward.values():
        for taker in takers:
            waits_for[taker] += 1
    free = [name for name in names if not waits_for[name]]
    ordered: list[str] = []
    while free:
        name = free.pop(0)
        ordered.append(name)
        for taker in forward[name]:
            waits_for[taker] -= 1
            if not waits_for[taker]:
                free.append(taker)
    return ordered


def _rows(columns: Mapping[str, int], arrows: tuple[Arrow, ...]) -> dict[str, int]:
    """Put each role near those that send to it, so that arrows cross little."""
    rows: dict[str, int] = {}
    for column in range(max(columns.values(), default=0) + 1):
        members = [name for name, where in columns.items() if where == column]

        def height(name: str) -> float:
            above = [
                rows[arrow.sender]
                for arrow in arrows
                if arrow.taker == name and arrow.sender in rows
            ]
            return sum(above) / len(above) if above else 0

        rows.update((name, row) for row, name in enumerate(sorted(members, key=height)))
    return rows
