"""Rates over the whole fleet, kept in one row for each bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.clock import SystemClock
from rolekit.model.rates import Grant
from rolekit.store.postgres.steps import PostgresBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.rates import Ask


class BucketStore(PostgresBase):
    """Slots by the server's clock, so that clocks of hosts may differ."""

    async def reserve(self, asks: Sequence[Ask]) -> list[Grant]:
        """Reserve slots, each bucket at most once."""
        now_ms = None if isinstance(self._clock, SystemClock) else float(self._clock.now_ms())
        granted = await self._reserve(asks, now_ms)
        known = {grant.bucket for grant in granted}
        new = [ask for ask in asks if ask.bucket not in known]
        if new:
            async with self._db.connection() as connection:
                await connection.execute(
                    self._sql["make_buckets"], sorted(ask.bucket for ask in new)
                )
            granted += await self._reserve(new, now_ms)
        return granted

    async def _reserve(self, asks: Sequence[Ask], now_ms: float | None) -> list[Grant]:
        async with self._db.connection() as connection:
            found = await connection.fetch(
                self._sql["reserve"],
                [ask.bucket for ask in asks],
                [ask.wanted for ask in asks],
                [ask.first for ask in asks],
                [ask.step_ms for ask in asks],
                [ask.burst for ask in asks],
                [ask.ahead_ms for ask in asks],
                now_ms,
                [ask.line_ms for ask in asks],
            )
        return [
            Grant(row["name"], row["start_ms"], row["granted"], row["place_ms"])
            for row in found
        ]
