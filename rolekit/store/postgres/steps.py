"""Committing steps: inbox first, then everything else, in one transaction.

Locks are taken in one order by everybody: partitions, inbox rows by id, states by key, held
keys, positions and then sequences by id. Whoever waits for a lock waits for somebody further
on.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from rolekit.clock import Clock, SystemClock
from rolekit.database import Database, load_queries, roll_back, translated
from rolekit.errors import StateClash
from rolekit.store.base import (
    SCHEDULE,
    Commit,
    Due,
    OpenStep,
    Outgoing,
    RawTransaction,
    SomeTaken,
    StateChange,
    StateKey,
    Step,
    Taken,
)
from rolekit.store.postgres import key_work, literals, rows
from rolekit.store.postgres.split_work import move_splits
from rolekit.store.postgres.transactions import (
    OpenTransaction,
    Statements,
    commit_tidied,
)
from rolekit.store.postgres.work import SequenceWork, Tokens
from rolekit.store.postgres.writes import refused_of, write
from rolekit.store.streams import parted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

    from rolekit.connections import Pooled
    from rolekit.model.envelope import Packet


class PostgresBase:
    """What the parts of the store share.

    Args:
        database: The app's.
        owner: Names this process in the outbox.
        joins: Whether Postgres is the broker too: outputs then go into its queues.
        clock: Says when a run that waits for more parts is due.
    """

    def __init__(
        self,
        database: Database,
        *,
        owner: int = 0,
        joins: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self.results_s: float = 86_400
        self.horizon_s: float = 7 * 86_400
        # Whoever has a transaction open may ask for a second connection: some must be left.
        self.tx_slots = asyncio.Semaphore(max(1, database.max_connections // 2))
        self._clock = clock or SystemClock()
        self._db = database
        self._owner = owner
        self._joins = joins
        self._sql = load_queries("rolekit.store.sql", "queries.sql", database.schema)

    async def _send(
        self, connection: Pooled, packets: Sequence[Packet], commit: Commit
    ) -> None:
        """Let packets leave with this commit: into the queue, or into the outbox."""
        if not packets:
            return
        if self._joins:
            columns = rows.packet_columns(packets)
            await connection.execute(self._sql["insert_queue"], *columns)
            commit.topics.update(columns[0])
            return
        for together in rows.in_rows(packets):
            await self._insert_row(connection, together, commit)

    async def _insert_row(
        self, connection: Pooled, packets: Sequence[Packet], commit: Commit
    ) -> None:
        """Let packets leave by one row of the outbox."""
        now_ms = self._clock.now_ms()
        for packet in packets:
            packet.birth_ms = packet.birth_ms or now_ms
        columns = rows.packet_columns(packets)
        n = await connection.fetchval(self._sql["insert_outbox"], *columns, self._owner)
        commit.leaving += [Outgoing(n, packet) for packet in packets]

    async def _plan(self, connection: Pooled, later: Sequence[Due], commit: Commit) -> None:
        """Note packets for later."""
        if later:
            commit.topics.add(SCHEDULE)
            columns = rows.packet_columns(due.packet for due in later)
            queue, id_, generation, _, head, body = columns
            due_ms = [due.due_ms for due in later]
            await connection.execute(
                self._sql["insert_schedule"], due_ms, queue, id_, generation, head, body,
                [due.why for due in later],
            )  # fmt: skip


class StepStore(PostgresBase):
    """Steps, whole batches at once."""

    async def commit(self, steps: Sequence[Step]) -> Commit:
        """Commit these steps in one transaction, and most in one statement."""
        if all(is_plain(step) for step in steps):
            commit = await self._at_once(steps)
            if commit is not None:
                return commit
        async with self._db.transaction() as connection:
            await self.begin_keyed(connection, steps)
            fresh_steps, commit = await self._take(connection, steps)
            await self.effects(connection, fresh_steps, commit)
        return commit

    async def suspects(self, steps: Sequence[Step]) -> list[Step]:
        """Run the statements of these steps again, in halves, and roll everything back."""
        async with self._db.trial() as connection:
            await self.begin_keyed(connection, steps)
            fresh_steps, _ = await self._take(connection, steps)
            return await refused_of(connection, fresh_steps) if fresh_steps else []

    async def commit_whole(self, steps: Sequence[Step]) -> Commit:
        """Commit these steps in one transaction, all of them or none."""
        if all(is_plain(step) for step in steps):
            commit = await self._at_once(steps)
            if commit is not None:
                return commit
        async with self._db.transaction() as connection:
            fresh_steps, commit = await self._take(connection, steps)
            taken = frozenset(step.key for step in steps) - commit.fresh
            if taken:
                raise SomeTaken(taken)
            await self.effects(connection, fresh_steps, commit)
        return commit

    async def _at_once(self, steps: Sequence[Step]) -> Commit | None:
        """Commit plain steps, all of them or none, in one round trip.

        Returns:
            None where that did not work out, since one had its outcome before, a state
            changed, or a partition has another owner: nothing happened, and the long way
            tells which it was.
        """
        ordered = sorted(steps, key=lambda step: step.key)
        packets = [packet for step in steps for packet in step.outputs]
        keys = {step.key for step in steps}
        if len(keys) < len(steps) or not rows.fits_one_row(packets):
            return None
        try:
            folded = _folded(change for step in steps for change in step.states)
        except StateClash:
            return None
        if not self._joins:
            now_ms = self._clock.now_ms()
            for packet in packets:
                packet.birth_ms = packet.birth_ms or now_ms
        arguments = (
            *literals.of_inbox(ordered),
            *literals.of_states(folded),
            *literals.of_packets(packets),
            *key_work.fence_columns(steps),
        )
        async with self._db.connection() as connection:
            try:
                if self._joins:
                    await connection.execute(self._sql["at_once_to_queues"], *arguments)
                    return Commit(fresh=keys, topics={packet.queue for packet in packets})
                row = await connection.fetchrow(
                    self._sql["at_once_to_outbox"], *arguments, self._owner
                )
            except asyncpg.DivisionByZeroError:
                return None
        assert row is not None  # noqa: S101 - a select without a table gives one
        return Commit(fresh=keys, leaving=[Outgoing(row["n"], packet) for packet in packets])

    async def _take(
        self, connection: Pooled, steps: Sequence[Step]
    ) -> tuple[list[Step], Commit]:
        """Insert the inbox rows; one copy of each id acts."""
        copies = {step.key: step for step in reversed(steps)}
        with_row = (step for step in copies.values() if not step.skips_inbox)
        ordered = sorted(with_row, key=lambda step: step.key)
        taken = await connection.fetch(
            self._sql["insert_inbox"], *literals.of_inbox(ordered, steps)
        )
        commit = Commit(fresh={(row["id"].hex, row["generation"]) for row in taken})
        commit.fresh.update(step.key for step in copies.values() if step.skips_inbox)
        chosen = (step for step in steps if copies[step.key] is step)
        return [step for step in chosen if step.key in commit.fresh], commit

    async def begin_keyed(self, connection: Pooled, steps: Sequence[Step]) -> None:
        """Do what comes first where a step has a key."""
        await key_work.begin_keyed(connection, self._sql, steps)

    async def effects(self, connection: Pooled, steps: Sequence[Step], commit: Commit) -> None:
        """Do what fresh steps want, kind by kind; a handler's writes in its own order."""
        if any(step.split is not None for step in steps):
            await move_splits(connection, self._sql, steps)
        await write(connection, steps)
        await self._save_states(connection, [s for step in steps for s in step.states])
        await key_work.settle_keys(connection, self._sql, steps)
        for step in steps:
            if step.dead is not None:
                await self._park(connection, step)
        answering = {step.answers: step.key for step in steps if step.answers}
        if answering:
            await self._answer(connection, steps, answering)
        tokens = await self._move_sequences(connection, steps)
        in_order, rest = parted(steps, tokens.now)
        for row in in_order:
            await self._insert_row(connection, row, commit)
        await self._send(connection, rest, commit)
        await self._plan(
            connection, [due for step in steps for due in step.later] + tokens.later, commit
        )
        await self._keep_replies(connection, steps, commit)

    async def _move_sequences(self, connection: Pooled, steps: Sequence[Step]) -> Tokens:
        for step in steps:
            if step.closings or step.opening is not None or step.release is not None:
                work = SequenceWork(connection, self._sql, self._clock.now_ms())
                return await work.run(steps)
        return Tokens()

    async def _save_states(self, connection: Pooled, changes: Iterable[StateChange]) -> None:
        folded = _folded(changes)
        if not folded:
            return
        columns = tuple(list(column) for column in zip(*folded, strict=True))
        versions = columns[3]
        saved = 0
        if 0 in versions:
            saved += len(await connection.fetch(self._sql["upsert_state"], *columns))
        if any(versions):
            saved += len(await connection.fetch(self._sql["update_state"], *columns))
        if saved != len(folded):
            raise StateClash(
                f"{len(folded) - saved} of {len(folded)} states changed since they were read."
            )

    async def _park(self, connection: Pooled, step: Step) -> None:
        dead = step.dead
        assert dead is not None  # noqa: S101 - the caller looked
        p = dead.packet
        await connection.execute(
            self._sql["insert_dead"], dead.id, p.queue, p.id, p.generation, p.birth_ms or 0,
            p.head, p.body, dead.handler, dead.type, dead.reason, dead.traceback, dead.attempts,
            dead.is_forced, dead.told, dead.answers, dead.detail,
        )  # fmt: skip

    async def _answer(
        self,
        connection: Pooled,
        steps: Sequence[Step],
        answering: Mapping[str, tuple[str, int]],
    ) -> None:
        """Note that handlers are done with dead letters; but not with ones replayed since.

        A letter that is open is locked from here on, so a replay of it waits, and finds it
        answered.
        """
        answers = [step.answers for step in steps if step.answers]
        await connection.execute(self._sql["answer_dead"], answers, True)  # noqa: FBT003
        for row in await connection.fetch(self._sql["replayed_dead"], answers):
            raise Taken(*answering[row["id"]])

    async def _keep_replies(
        self, connection: Pooled, steps: Sequence[Step], commit: Commit
    ) -> None:
        replies = [reply for step in steps for reply in step.replies]
        if not replies:
            return
        roots = [reply.root for reply in replies]
        await connection.execute(self._sql["order_replies"], roots)
        await connection.execute(
            self._sql["insert_replies"],
            roots,
            [r.id for r in replies],
            [r.type for r in replies],
            [r.type_version for r in replies],
            [r.codec for r in replies],
            [r.body for r in replies],
            [r.is_failure for r in replies],
            [r.trace for r in replies],
        )
        commit.topics.add("~replies")

    async def seen(self, keys: Sequence[tuple[str, int, int]]) -> set[tuple[str, int]]:
        """Say which of these (id, generation, birth_ms) have their inbox row."""
        ids, generations, births = zip(*keys, strict=True)
        days = [rows.day_of(birth) for birth in births]
        async with self._db.connection() as connection:
            found = await connection.fetch(
                self._sql["seen"], list(ids), list(generations), days
            )
        return {(row["id"].hex, row["generation"]) for row in found}

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[RawTransaction]:
        """Open a transaction of the user's own; it commits when the block ends well."""
        async with self._db.borrowed() as connection:
            statements = Statements(connection)
            with translated():
                await connection.execute(self._db.begin)
            try:
                yield statements
                with translated():
                    await commit_tidied(self._db, connection)
            except BaseException:
                await roll_back(connection, then=self._db.tidy)
                raise

    async def begin(self, message_id: str, generation: int, birth_ms: int) -> OpenStep:
        """Open the transaction of a step, its inbox row first."""
        step = OpenTransaction(
            self, self._db, (message_id, generation), self._sql["delete_claims"]
        )
        taking = Step(id=message_id, generation=generation, birth_ms=birth_ms)
        await step.open(self._sql["insert_inbox"], literals.of_inbox([taking]))
        return step


def is_plain(step: Step) -> bool:
    """Whether a step only records its outcome, changes states and sends.

    A key may be its message's, as long as that neither holds it nor held it.
    """
    return not (
        step.writes
        or step.closings
        or step.release is not None
        or step.opening is not None
        or step.later
        or step.replies
        or step.dead is not None
        or step.answers
        or step.split is not None
        or step.skips_inbox
        or (step.keyed is not None and not step.keyed.leaves_alone)
    )


def _folded(changes: Iterable[StateChange]) -> list[tuple[str, str, str, int, bytes, int]]:
    """Fold changes by key: scope, name, key, version before, last body, version after.

    Raises:
        StateClash: One does not follow the other.
    """
    folded: dict[StateKey, tuple[int, bytes, int]] = {}
    for change in changes:
        first, _, there = folded.get(change.key, (change.version, b"", change.version))
        if change.version != there:
            raise StateClash(f"A state of {change.key.scope} changed since it was read.")
        folded[change.key] = (first, change.body, change.becomes)
    rows = [
        (key.scope, key.name, key.key, first, body, after)
        for key, (first, body, after) in folded.items()
    ]
    return sorted(rows, key=lambda row: row[:3])
