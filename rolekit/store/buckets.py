"""What every store promises about rates: slots that nobody else gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.rates import Ask, Grant


class Buckets(Protocol):
    """When the next free slot of each bucket is, over the whole fleet."""

    async def reserve(self, asks: Sequence[Ask]) -> list[Grant]:
        """Reserve slots, each bucket at most once; by the store's own clock.

        Returns:
            One answer for each, in any order.
        """
        ...
