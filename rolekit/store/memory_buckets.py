"""Rates, of the store in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.model import rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.rates import Ask, Grant
    from rolekit.store.memory_tables import MemoryTables


class MemoryBuckets:
    """Keeps the contract of `store.buckets.Buckets`."""

    tables: MemoryTables

    async def reserve(self, asks: Sequence[Ask]) -> list[Grant]:
        """Reserve slots, each bucket at most once."""
        buckets, now_ms = self.tables.buckets, self.tables.clock.now_ms()
        granted: list[Grant] = []
        for ask in asks:
            before = buckets.get(ask.bucket, rates.Bucket())
            grant, buckets[ask.bucket] = rates.reserve(ask, before, now_ms)
            granted.append(grant)
        return granted
