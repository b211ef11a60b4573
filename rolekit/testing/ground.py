"""Where an app in a test keeps its state: in memory, or in a database."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from rolekit import link
from rolekit.clock import ManualClock, SystemClock
from rolekit.database import Database
from rolekit.store.memory_tables import MemoryTables
from rolekit.store.migrate import migrate
from rolekit.testing.journal import Journal, WatchedMemoryStore, WatchedPostgresStore
from rolekit.wiring.hosting import Host, open_host

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.model.plan import AppPlan


class Ground(Protocol):
    """Where state is kept, as a test needs it."""

    clock: ManualClock
    tables: MemoryTables | None

    def store(self, owner: int) -> WatchedMemoryStore | WatchedPostgresStore:
        """Open one process's view."""
        ...

    def owner(self, number: int) -> int:
        """Return the owner number of the process of this number."""
        ...

    async def crash(self, store: WatchedMemoryStore | WatchedPostgresStore) -> None:
        """Cut a process off its state, in the middle of whatever it does."""
        ...

    async def bury(self, owner: int) -> None:
        """Let others take over what a process that crashed had not sent."""
        ...

    async def next_deadline_ms(self) -> int | None:
        """Say when the time of the next sequence is up."""
        ...


class MemoryGround:
    """State in this process; its clock begins at the same time in every test."""

    def __init__(self, plan: AppPlan, journal: Journal) -> None:
        self.clock = ManualClock()
        self.tables: MemoryTables | None = MemoryTables(
            self.clock, results_s=plan.results_s, horizon_s=plan.horizon_s
        )
        self._tables = self.tables
        self._journal = journal

    def store(self, owner: int) -> WatchedMemoryStore:
        """Open one process's view."""
        return WatchedMemoryStore(self._tables, owner, self._journal)

    def owner(self, number: int) -> int:
        """Return the number itself."""
        return number

    async def crash(self, store: WatchedMemoryStore | WatchedPostgresStore) -> None:
        """Let nothing more be committed."""
        assert isinstance(store, WatchedMemoryStore)  # noqa: S101 - it was made here
        store.crash()

    async def bury(self, owner: int) -> None:
        """Does nothing: a crash has orphaned the outbox already."""

    async def next_deadline_ms(self) -> int | None:
        """Say when the time of the next sequence is up."""
        waiting = self._tables.sequences.waiting()
        return min((row.opening.deadline_ms for row in waiting), default=None)


class PostgresGround:
    """State in a database; its clock begins now, as the database's own does."""

    def __init__(self, plan: AppPlan, journal: Journal, url: str, host: Host) -> None:
        self.clock = ManualClock(SystemClock().now_ms())
        self.tables: MemoryTables | None = None
        self._plan = plan
        self._journal = journal
        self._url = url
        self._host = host
        self._databases: dict[int, Database] = {}
        self._looking = self.store(0)

    def store(self, owner: int) -> WatchedPostgresStore:
        """Open one process's view, with connections of its own."""
        database = Database(self._url, self._plan.name, max_connections=4)
        store = WatchedPostgresStore(database, owner, self.clock, self._journal)
        store.results_s, store.horizon_s = self._plan.results_s, self._plan.horizon_s
        self._databases[id(store)] = database
        return store

    def owner(self, number: int) -> int:
        """Return an owner number under this host's lease."""
        return self._host.epoch << link.OWNER_BITS | number

    async def crash(self, store: WatchedMemoryStore | WatchedPostgresStore) -> None:
        """Break its connections."""
        await self._databases[id(store)].close()

    async def bury(self, owner: int) -> None:
        """Let others take over what a process that crashed had not sent."""
        await self._host.release(owner)

    async def next_deadline_ms(self) -> int | None:
        """Say when the time of the next sequence is up."""
        return await self._looking.next_deadline_ms()

    async def close(self) -> None:
        """Close every connection."""
        for database in self._databases.values():
            await database.close()


@asynccontextmanager
async def ground_for(plan: AppPlan, journal: Journal, database: str) -> AsyncGenerator[Ground]:
    """Open the state of one test: in memory, or in a database, which is migrated first."""
    if database == "memory":
        yield MemoryGround(plan, journal)
        return
    there = Database(database, plan.name)
    try:
        await migrate(there)
    finally:
        await there.close()
    async with open_host(plan.name, database, "") as host:
        ground = PostgresGround(plan, journal, database, host)
        try:
            yield ground
        finally:
            await ground.close()
