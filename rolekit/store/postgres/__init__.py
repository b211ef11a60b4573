"""The store on Postgres: one schema an app, one transaction a batch of steps.

What the database decides: whether a message had its outcome (a row of `inbox`), where a
sequence stands (`sequence.next`, moved under the row's lock), which closing of a position
counts (the key of `part`), what is due (`schedule`), what has not left yet (`outbox`).
What a process may believe: nothing it read before its commit, but for what the commit
itself compares: the inbox row, the cursor, the version of a state.
"""

from __future__ import annotations

from rolekit.store.postgres.buckets import BucketStore
from rolekit.store.postgres.deadletters import DeadLetterStore
from rolekit.store.postgres.deaths import DeathStore
from rolekit.store.postgres.flights import FlightStore
from rolekit.store.postgres.heaps import HeapStore
from rolekit.store.postgres.intake import IntakeStore
from rolekit.store.postgres.joining import JoinStore
from rolekit.store.postgres.keeping import KeepingStore
from rolekit.store.postgres.keys import KeysStore
from rolekit.store.postgres.relay import RelayStore
from rolekit.store.postgres.sequences import SequenceStore
from rolekit.store.postgres.steps import StepStore
from rolekit.store.postgres.timers import TimerStore

__all__ = ["PostgresStore"]


class PostgresStore(
    StepStore,
    SequenceStore,
    HeapStore,
    FlightStore,
    KeepingStore,
    IntakeStore,
    JoinStore,
    RelayStore,
    DeadLetterStore,
    DeathStore,
    TimerStore,
    BucketStore,
    KeysStore,
):
    """Keeps the contracts of `store.base`, `Store` and `Deaths`, on one Postgres database."""

    async def start(self) -> None:
        """Connects to nothing: the pool opens when it is first used."""

    async def stop(self) -> None:
        """Close every connection."""
        await self._db.close()
