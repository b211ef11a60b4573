"""A host's lease: one row that its supervisor renews, and what follows when it ends.

The row is read without a lock by whoever claims or sweeps. A lease that ran out is taken
again under the same epoch: what was handed back meanwhile is done by others, and the inbox
tells who came first.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from rolekit.database import Database, load_queries, translated
from rolekit.errors import RolekitError
from rolekit.store.lease import AWAY_S, LEASE_S, RENEW_S, Lease
from rolekit.store.postgres.together import Together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import asyncpg

log = structlog.get_logger("rolekit.host")

MOST_COUNTED = 10_000
"""Sequences of one gather that are counted at most: that takes a few milliseconds."""
LATE_S = 75.0
"""What a dead instance had under way has ended by then: the server allows statements 60 s."""


class PostgresHost:
    """Keeps one host's lease in the database, and in the broker's where that is another.

    Attributes:
        epoch: Of the lease.
        roles: That run on this host; told to others with the next renewal.

    Args:
        databases: The app's first; its epoch counts. Then the broker's, if it is another.
        has_queues: The broker is the last of these databases, rather than elsewhere.
    """

    def __init__(self, databases: Sequence[Database], *, has_queues: bool = True) -> None:
        self._databases = databases
        self._has_queues = has_queues
        self._sql = {
            database: load_queries("rolekit.store.sql", "host.sql", database.schema)
            for database in databases
        }
        self._queue_sql = load_queries(
            "rolekit.transport.sql", "queue.sql", databases[-1].schema
        )
        self._identity = (_machine(), os.getpid(), _started(os.getpid()))
        self._heard: asyncio.Queue[list[str]] = asyncio.Queue()
        self._lease = Lease(self._renew, self._hand_back_late)
        self._dead: dict[int, float] = {}
        self._crashed: set[int] = set()
        self._releasing = Together(self._release_all)
        self.epoch = 0
        self.roles: list[str] = []

    async def start(self) -> None:
        """Take the lease; end those of supervisors of this machine that are gone."""
        first = self._databases[0]
        async with first.connection() as connection:
            self.epoch = await connection.fetchval(
                self._sql[first]["add_host"], *self._identity, LEASE_S
            )
        await self._renew()
        for database in self._databases:
            await self._end_dead(database)

    async def run(self) -> None:
        """Renew and listen until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lease.keep())
            tasks.create_task(self._listen())

    async def stop(self) -> None:
        """Give the lease back, if the database can be reached."""
        for database in self._databases:
            with suppress(RolekitError, TimeoutError):
                async with asyncio.timeout(2), database.connection() as connection:
                    await connection.execute(self._sql[database]["end_hosts"], [self.epoch])

    async def release(self, owner: int, *, crashed: bool = True) -> None:
        """Hand back what an instance held that ended; tries until it is done.

        A claim or a commit that was under way in the server when the instance died may end
        after this. What it leaves is handed back with the next renewals of the lease.

        Args:
            owner: The instance.
            crashed: It died, rather than ended in good order.
        """
        if crashed:
            self._crashed.add(owner)
        while True:
            try:
                await self._releasing.ask([owner])
            except RolekitError:
                await asyncio.sleep(AWAY_S)
            else:
                self._dead[owner] = asyncio.get_running_loop().time()
                return

    async def _release_all(self, owners: list[int]) -> Mapping[int, None]:
        """Hand back what these held, together: at the end of a fleet there are many."""
        try:
            await self._hand_back(owners)
        except RolekitError as error:
            log.warning(
                "cannot hand back what instances held", owners=owners[:10], error=str(error)
            )
            raise
        return dict.fromkeys(owners)

    async def _hand_back(self, owners: Sequence[int]) -> None:
        if self._has_queues:
            await self._free(owners)
        first = self._databases[0]
        async with first.connection() as connection:
            if not self._has_queues:
                crashed = [owner for owner in owners if owner in self._crashed]
                await connection.execute(self._sql[first]["note_deaths"], crashed)
                await connection.execute(self._sql[first]["end_trials"], owners)
            await connection.execute(self._sql[first]["orphan_outbox"], owners)
            left = await connection.fetch(self._sql[first]["end_members"], owners)
        if left:
            self._heard.put_nowait(sorted({f"~keys.{row['role']}" for row in left}))

    async def _free(self, owners: Sequence[int]) -> None:
        async with self._databases[-1].connection() as connection:
            freed = await connection.fetch(self._queue_sql["free_owners"], owners)
            asking = [f"~reply.{owner}" for owner in owners]
            await connection.execute(self._queue_sql["forget_askers"], asking)
        if freed:
            self._heard.put_nowait(sorted({row["queue"] for row in freed}))

    async def _hand_back_late(self) -> None:
        now = asyncio.get_running_loop().time()
        over = [owner for owner, at in self._dead.items() if now - at >= LATE_S]
        for owner in over:
            del self._dead[owner]
            self._crashed.discard(owner)
        if self._dead:
            with suppress(RolekitError, TimeoutError):
                async with asyncio.timeout(RENEW_S):
                    await self._hand_back(list(self._dead))

    async def standing(self, gathers: Mapping[str, float]) -> dict[str, float]:
        """Say how long the sequence of each gather that stood still longest has, seconds.

        Args:
            gathers: Names, with the age from which on a sequence is not looked at.
        """
        first = self._databases[0]
        async with first.connection() as connection:
            found = await connection.fetch(
                self._sql[first]["standing"], list(gathers), list(gathers.values())
            )
        return {row["gather"]: max(row["stood_s"], 0.0) for row in found}

    async def in_flight(self, gathers: Sequence[str]) -> dict[str, tuple[int, float]]:
        """Count the sequences of each gather that are in flight.

        Returns:
            By gather: how many, up to `MOST_COUNTED`, and how long the one that stood still
            longest has, seconds.
        """
        first = self._databases[0]
        async with first.connection() as connection:
            sql = self._sql[first]["open_sequences"]
            found = await connection.fetch(sql, list(gathers), MOST_COUNTED)
        return {row["gather"]: (row["open"], max(row["stood_s"], 0.0)) for row in found}

    async def hosts(self) -> dict[str, int]:
        """Say of each role how many hosts that hold a lease run it."""
        first = self._databases[0]
        async with first.connection() as connection:
            found = await connection.fetch(self._sql[first]["hosts_of_roles"])
        return {row["role"]: row["hosts"] for row in found}

    async def topics(self) -> AsyncIterator[list[str]]:
        """Say for which topics something arrived, again and again."""
        while True:
            yield await self._heard.get()

    def lease(self) -> AsyncIterator[bool]:
        """Say whether the lease is held, now and at each change."""
        return self._lease.changes()

    async def _renew(self) -> None:
        for database in self._databases:
            async with database.connection() as connection:
                await connection.execute(
                    self._sql[database]["renew_host"],
                    self.epoch,
                    *self._identity,
                    LEASE_S,
                    self.roles,
                )
                await connection.execute(self._sql[database]["end_stale_hosts"])
                await connection.execute(self._sql[database]["end_stale_members"])
                if not self._has_queues:
                    await connection.execute(self._sql[database]["note_lost_trials"])

    async def _listen(self) -> None:
        """Keep one connection listening; a silent loss shows at the next ping."""
        while True:
            connection: asyncpg.Connection[asyncpg.Record] | None = None
            try:
                connection = await self._databases[0].dedicated()
                with translated():
                    await connection.add_listener(self._databases[0].schema, self._hear)
                    # What came while nobody listened is found by looking everywhere once.
                    self._heard.put_nowait(["*"])
                    while True:
                        await asyncio.sleep(RENEW_S)
                        async with asyncio.timeout(RENEW_S):
                            await connection.execute("select")
            except Exception as error:  # noqa: BLE001 - likewise
                log.info("not listening; polling carries on", error=str(error))
                await asyncio.sleep(AWAY_S)
            finally:
                if connection is not None:
                    connection.terminate()

    def _hear(self, *event: object) -> None:
        payload = str(event[-1])
        self._heard.put_nowait(payload.split("\n"))

    async def _end_dead(self, database: Database) -> None:
        sql = self._sql[database]
        async with database.connection() as connection:
            found = await connection.fetch(sql["live_hosts"], self._identity[0])
            dead = [
                row["epoch"]
                for row in found
                if row["epoch"] != self.epoch and _started(row["pid"]) != row["started"]
            ]
            if dead:
                await connection.execute(sql["end_hosts"], dead)


async def count_hosts(database: Database) -> int:
    """Say how many supervisors and clients of an app hold a lease now.

    Raises:
        Unavailable: The database cannot be reached.
    """
    sql = load_queries("rolekit.store.sql", "host.sql", database.schema)
    async with database.connection() as connection:
        if not await connection.fetchval(sql["has_hosts"]):
            return 0
        found: int = await connection.fetchval(sql["count_hosts"])
        return found


def _machine() -> str:
    """Name this machine, this boot and this space of process ids."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text(encoding="ascii").strip() if boot.exists() else ""
    space = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {boot_id} {space.readlink() if space.exists() else ''}"


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's words; empty when there is none."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
        )
    except OSError:
        return ""
