"""What a batch is made of: its items, and what the search for one at fault knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from rolekit.errors import AppError
from rolekit.flow.runtime import Arrival

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.flow.call import Handler

FAILED_ALONE = 3
"""So many items that fail alone, while nothing succeeds, show that no item is at fault."""


@dataclass(slots=True, eq=False)
class Item:
    """One message of a batch.

    Attributes:
        arrival: Its delivery.
        message: Decoded.
        twins: Other deliveries of the same message.
        is_settled: Nothing is left to do.
    """

    arrival: Arrival
    message: object = None
    twins: list[Arrival] = field(default_factory=list[Arrival])
    is_settled: bool = False


@dataclass(slots=True)
class Search:
    """How a search for whoever is at fault goes."""

    alone: int = 0
    has_succeeded: bool = False
    error: Exception | None = None

    @property
    def is_vain(self) -> bool:
        """Whether no item is at fault, as far as was seen."""
        return self.alone >= FAILED_ALONE and not self.has_succeeded


def distinct(arrivals: Sequence[Arrival]) -> list[Item]:
    """Make an item of each message, however often it was delivered."""
    items: dict[tuple[str, int], Item] = {}
    for arrival in arrivals:
        key = (arrival.packet.id, arrival.packet.generation)
        if key in items:
            items[key].twins.append(arrival)
        else:
            items[key] = Item(arrival)
    return list(items.values())


def one_each(handler: Handler, given: Sequence[object], count: int) -> Sequence[object]:
    """Return one result for each item, from what the handler returned."""
    if not given:
        return [None] * count
    results = given[0]
    if not isinstance(results, (list, tuple)):
        raise AppError(
            f"{handler.plan.name} returned {type(results).__name__} for a batch.",
            fix="Return None, or a list as long as the batch.",
        )
    listed = cast("Sequence[object]", results)
    if len(listed) != count:
        raise AppError(
            f"{handler.plan.name} returned {len(listed)} results for a batch of {count}.",
            fix="Return None, or a list as long as the batch: output i for input i, or None.",
        )
    return listed
