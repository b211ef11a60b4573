"""What an app sent and what died in it, written down as it happens."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rolekit.errors import RolekitError, Unavailable
from rolekit.model.envelope import Kind, decode_head, handler_of
from rolekit.model.parts import DeadLetter
from rolekit.model.reassembly import ClosedBy
from rolekit.store.base import SomeTaken, Taken
from rolekit.store.memory import MemoryStore
from rolekit.store.postgres import PostgresStore
from rolekit.transport.base import outside_queue

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from rolekit.clock import Clock
    from rolekit.database import Database
    from rolekit.model.codec import Codec
    from rolekit.model.envelope import Packet
    from rolekit.model.plan import AppPlan
    from rolekit.store.base import Commit, DeadLetterRow, OpenStep, Step
    from rolekit.store.memory_tables import MemoryTables

R = TypeVar("R")


class Journal:
    """Each message once, though it may travel twice, and to several handlers.

    A message that handlers take is written down when it is published to the first of them;
    one that only a gather takes, when its part is stored; a reply when it leaves.

    Args:
        plan: Of the app.
        codec: For its messages.
    """

    def __init__(self, plan: AppPlan, codec: Codec) -> None:
        self._plan = plan
        self._codec = codec
        self._known: set[tuple[object, ...]] = set()
        self._messages: list[object] = []
        self._letters: set[str] = set()
        self._unanswered: dict[tuple[str, int], Step] = {}
        self.dead: list[DeadLetter[object]] = []

    def seen(self, cls: type[R]) -> list[R]:
        """Return every message of exactly this class, in the order they were sent."""
        return [message for message in self._messages if type(message) is cls]

    def published(self, packet: Packet) -> None:
        """Note a packet on its way to a queue."""
        try:
            head = decode_head(packet.head)
        except RolekitError:
            return
        if head.kind is Kind.REPLY or (
            head.kind is Kind.MESSAGE
            and handler_of(packet, head) == self._first_handler(head.type)
        ):
            key = (packet.queue, packet.id)
            self._note(key, (head.type, head.type_version, head.codec, packet.body))

    def committed(self, steps: Sequence[Step], fresh: set[tuple[str, int]]) -> None:
        """Note what a commit stored: parts, kept replies, dead letters."""
        left = set(fresh)
        for step in steps:
            if step.key in left:
                left.discard(step.key)
                self._unanswered.pop(step.key, None)
                self._took_effect(step)
        self.taken(step.key for step in steps if step.key not in fresh)

    @contextmanager
    def answered(self, steps: Sequence[Step]) -> Generator[None]:
        """Remember steps whose commit gets no answer, by a kill or a lost connection.

        Whether it happened, whoever gets their messages next learns from the inbox: see
        `taken`.
        """
        try:
            yield
        except (asyncio.CancelledError, Unavailable):
            for step in steps:
                self._unanswered.setdefault(step.key, step)
            raise
        except SomeTaken as error:
            self.taken(error.keys)
            raise

    def taken(self, keys: Iterable[tuple[str, int]]) -> None:
        """Note steps whose inbox rows were found, and whose commit got no answer."""
        for key in keys:
            step = self._unanswered.pop(key, None)
            if step is not None:
                self._took_effect(step)

    def _took_effect(self, step: Step) -> None:
        for part in step.closings:
            if part.by is ClosedBy.PART and self._first_handler(part.type) is None:
                at = (part.sequence, part.path)
                self._note(at, (part.type, part.type_version, part.codec, part.body))
        for reply in step.replies:
            if not reply.is_failure:
                key = ("reply", reply.id)
                self._note(key, (reply.type, reply.type_version, reply.codec, reply.body))
        if step.dead is not None and step.dead.id not in self._letters:
            self._letters.add(step.dead.id)
            self.dead.append(self._letter(step.dead))

    def _first_handler(self, type_: str) -> str | None:
        cls = self._plan.types.get(type_)
        if cls is None:
            return None
        targets = self._plan.destinations.get(cls, ())
        elsewhere = self._plan.outside.get(cls)
        first = next((n for n in targets if self._plan.handlers[n].kind != "gather"), None)
        return first or (elsewhere and outside_queue(elsewhere))

    def _note(self, key: tuple[object, ...], body: tuple[str, int, str, bytes]) -> None:
        if key in self._known:
            return
        self._known.add(key)
        try:
            self._messages.append(self._codec.decode(*body))
        except RolekitError:
            return  # it will be a dead letter, which says so

    def _letter(self, row: DeadLetterRow) -> DeadLetter[object]:
        message: object = row.packet.body
        try:
            head = decode_head(row.packet.head)
            message = self._codec.decode(
                head.type, head.type_version, head.codec, row.packet.body
            )
        except RolekitError:
            pass  # its bytes, since nobody can read it
        return DeadLetter(
            message, id=row.id, handler=row.handler, reason=row.reason, attempts=row.attempts
        )


class WatchedMemoryStore(MemoryStore):
    """A store in memory whose commits are written down."""

    def __init__(self, tables: MemoryTables, owner: int, journal: Journal) -> None:
        super().__init__(tables, owner=owner)
        self._journal = journal

    async def commit(self, steps: Sequence[Step]) -> Commit:
        """Commit, then note."""
        commit = await super().commit(steps)
        self._journal.committed(steps, commit.fresh)
        return commit

    async def commit_whole(self, steps: Sequence[Step]) -> Commit:
        """Commit, then note."""
        commit = await super().commit_whole(steps)
        self._journal.committed(steps, commit.fresh)
        return commit


class WatchedPostgresStore(PostgresStore):
    """A store on Postgres whose commits are written down."""

    def __init__(self, database: Database, owner: int, clock: Clock, journal: Journal) -> None:
        super().__init__(database, owner=owner, joins=False, clock=clock)
        self._journal = journal

    async def commit(self, steps: Sequence[Step]) -> Commit:
        """Commit, then note."""
        with self._journal.answered(steps):
            commit = await super().commit(steps)
        self._journal.committed(steps, commit.fresh)
        return commit

    async def commit_whole(self, steps: Sequence[Step]) -> Commit:
        """Commit, then note."""
        with self._journal.answered(steps):
            commit = await super().commit_whole(steps)
        self._journal.committed(steps, commit.fresh)
        return commit

    async def seen(self, keys: Sequence[tuple[str, int, int]]) -> set[tuple[str, int]]:
        """Say which have their inbox row; a commit without an answer is known by it."""
        found = await super().seen(keys)
        self._journal.taken(found)
        return found

    async def begin(self, message_id: str, generation: int, birth_ms: int) -> OpenStep:
        """Open a step whose end is noted."""
        try:
            opened = await super().begin(message_id, generation, birth_ms)
        except Taken:
            self._journal.taken([(message_id, generation)])
            raise
        return _WatchedStep(opened, self._journal)

    async def next_deadline_ms(self) -> int | None:
        """Say when the time of the next sequence is up."""
        async with self._db.connection() as connection:
            deadline: int | None = await connection.fetchval(
                f"select min(deadline_ms) from {self._db.schema}.sequence"  # noqa: S608 - checked
                " where state = 0 and not is_expired and not waits"
            )
        return deadline


class _WatchedStep:
    def __init__(self, opened: OpenStep, journal: Journal) -> None:
        self.transaction = opened.transaction
        self._opened = opened
        self._journal = journal

    async def finish(self, step: Step) -> Commit:
        """Commit, then note."""
        with self._journal.answered([step]):
            commit = await self._opened.finish(step)
        self._journal.committed([step], commit.fresh)
        return commit

    async def abandon(self) -> None:
        """Roll back."""
        await self._opened.abandon()
