"""The store in this process, for tests: the contract of `store.base` without a server.

`MemoryTables` is what a database would hold, and each `MemoryStore` is one process's view of
it. Nothing here awaits, so each method is one transaction: it looks for every reason to
refuse before it changes anything.
"""

from __future__ import annotations

from dataclasses import replace as with_fields
from typing import TYPE_CHECKING

import msgspec

from rolekit.errors import RolekitError, StateClash, TooOld, Unavailable
from rolekit.store.base import (
    REPLIES,
    Accept,
    Commit,
    Due,
    Executes,
    KeyRow,
    OpenStep,
    Outgoing,
    RawTransaction,
    Reply,
    SequenceView,
    SomeTaken,
    SplitRow,
    StateKey,
    Step,
    Streamed,
)
from rolekit.store.memory_blobs import MemoryBlobs, sweep
from rolekit.store.memory_buckets import MemoryBuckets
from rolekit.store.memory_flights import flights_in, held_in
from rolekit.store.memory_keys import MemoryKeyStore
from rolekit.store.memory_letters import MemoryLetters
from rolekit.store.memory_sequences import FINISHED
from rolekit.store.memory_splits import check_splits, move_splits
from rolekit.store.memory_tables import DAY_MS, ORPHAN, MemoryTables
from rolekit.store.memory_timers import MemoryTimers
from rolekit.store.sent import SentBetween, SentRow
from rolekit.store.streams import parted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from rolekit.model.envelope import Packet
    from rolekit.model.position import Path
    from rolekit.model.reassembly import Closing
    from rolekit.store.flights import Flight, Held


class MemoryStore(MemoryLetters, MemoryTimers, MemoryKeyStore, MemoryBlobs, MemoryBuckets):
    """Keeps the contract of `store.base.Store`.

    Args:
        tables: Shared by everybody who is to meet there; of its own unless given.
        owner: Names this process in the outbox.
    """

    def __init__(self, tables: MemoryTables | None = None, *, owner: int = 1) -> None:
        self.tables = tables or MemoryTables()
        self.keys = self.tables.of_keys
        self.owner = owner
        self.is_dead = False
        self.keeps_sent = False

    async def start(self) -> None:
        """Connects to nothing."""

    async def stop(self) -> None:
        """Closes nothing."""

    def crash(self) -> None:
        """Die: no commit follows, and what has not left the outbox may be adopted."""
        self.is_dead = True
        self.keys.crash(self.owner)
        for row in self.tables.outbox.values():
            if row.owner == self.owner:
                row.owner = ORPHAN

    def _check(self) -> None:
        if self.is_dead:
            raise Unavailable("This connection to the store in memory has crashed.")

    # -- steps -------------------------------------------------------------------------------

    async def commit(self, steps: Sequence[Step]) -> Commit:
        """Commit these steps at once, or none of them."""
        self._check()
        t = self.tables
        copies = {step.key: step for step in reversed(steps)}
        chosen = [step for step in steps if copies[step.key] is step]
        fresh = [s for s in chosen if s.skips_inbox or _inbox_key(s) not in t.inbox]
        t.of_keys.check(step.keyed.fence for step in steps if step.keyed is not None)
        self._refuse(chosen, fresh)
        commit = Commit(fresh={step.key for step in fresh})
        t.inbox.update(_inbox_key(step) for step in fresh if not step.skips_inbox)
        t.writes += [write for step in fresh for write in step.writes]
        for change in (change for step in fresh for change in step.states):
            t.states[change.key] = (change.becomes, change.body)
        t.of_keys.settle(chosen, commit.fresh)
        for dead in (step.dead for step in fresh if step.dead is not None):
            self._park(dead)
        self._answer((step.answers for step in fresh if step.answers), done=True)
        now, later = t.sequences.run(fresh, t.clock.now_ms())
        move_splits(t, fresh)
        self._drop_states_of_the_finished(fresh)
        rows, rest = parted(fresh, now)
        for row in rows:
            self._send_row(row, commit)
        self._send(rest, commit)
        self._plan([*(due for step in fresh for due in step.later), *later], commit)
        self._keep([reply for step in fresh for reply in step.replies], commit)
        return commit

    async def suspects(self, steps: Sequence[Step]) -> list[Step]:
        """Know of none: nothing here refuses a statement."""
        del steps
        return []

    async def commit_whole(self, steps: Sequence[Step]) -> Commit:
        """Commit these steps at once, all of them or none."""
        self._check()
        inbox = self.tables.inbox
        taken = frozenset(step.key for step in steps if _inbox_key(step) in inbox)
        if taken:
            raise SomeTaken(taken)
        return await MemoryStore.commit(self, steps)

    def _refuse(self, chosen: Iterable[Step], fresh: Sequence[Step]) -> None:
        """Raise whatever keeps this batch from being committed, before anything changes."""
        t = self.tables
        for step in chosen:
            if not step.skips_inbox and step.birth_ms // DAY_MS < t.oldest_day:
                raise TooOld("Too old, perhaps done: the inbox no longer has its day.")
        self._refuse_late_answers(fresh)
        versions: dict[StateKey, int] = {}
        for change in (change for step in fresh for change in step.states):
            there = versions.get(change.key, t.states.get(change.key, (0, b""))[0])
            if there != change.version:
                raise StateClash(f"The state {change.key} changed since it was read.")
            versions[change.key] = change.becomes
        t.sequences.check(step.release for step in fresh if step.release is not None)
        check_splits(t, fresh)

    def _drop_states_of_the_finished(self, steps: Sequence[Step]) -> None:
        rows = self.tables.sequences.rows
        over = {
            f"sequence:{step.release.sequence}"
            for step in steps
            if step.release is not None and rows[step.release.sequence].state >= FINISHED
        }
        if over:
            states = self.tables.states
            self.tables.states = {k: v for k, v in states.items() if k.scope not in over}

    def _keep(self, replies: Sequence[Reply], commit: Commit) -> None:
        now_ms = self.tables.clock.now_ms()
        for reply in replies:
            n = self.tables.next_number()
            self.tables.replies.append((now_ms, with_fields(reply, n=n)))
            commit.topics.add(REPLIES)

    async def seen(self, keys: Sequence[tuple[str, int, int]]) -> set[tuple[str, int]]:
        """Say which of these (id, generation, birth_ms) have their inbox row."""
        inbox = self.tables.inbox
        return {(id_, n) for id_, n, birth in keys if (id_, n, birth // DAY_MS) in inbox}

    async def begin(self, message_id: str, generation: int, birth_ms: int) -> OpenStep:
        """Refuse: there is no SQL here."""
        del message_id, generation, birth_ms
        raise self._no_sql("ctx.tx()")

    def transaction(self) -> AbstractAsyncContextManager[RawTransaction]:
        """Refuse: there is no SQL here."""
        raise self._no_sql("WebRole.tx()")

    def _no_sql(self, what: str) -> RolekitError:
        error = RolekitError(
            f"{what} needs a database, and this app runs on the store in memory.",
            fix="Take the pytest fixture rolekit_database and pass it on: "
            "run_app(app, database=rolekit_database).",
        )
        self.tables.refused.append(error)
        return error

    async def oldest_birth_ms(self) -> int:
        """Return the earliest birth the inbox can tell anything about."""
        return self.tables.oldest_day * DAY_MS

    # -- sequences ---------------------------------------------------------------------------

    async def view(self, sequence: str, limit: int, *, whole: bool) -> SequenceView | None:
        """Read a sequence and its next `limit` closings; from the first one if `whole`."""
        row = self.tables.sequences.rows.get(sequence)
        return None if row is None else row.view(limit, whole=whole)

    async def seal(
        self, sequence: str, before: Path, end: Path, closings: Sequence[Closing]
    ) -> Path | None:
        """Fix where the run that begins at `before` ends, for this and every later attempt."""
        return self.tables.sequences.seal(sequence, before, end, closings)

    async def heap(self, sequence: str, limit: int) -> SequenceView | None:
        """Read a sequence whose parts are taken as they come."""
        row = self.tables.sequences.rows.get(sequence)
        return None if row is None else row.heap(limit)

    async def seal_heap(
        self, sequence: str, run: int, paths: Sequence[Path] | None, closings: Sequence[Closing]
    ) -> tuple[Path, ...] | None:
        """Fix what run number `run` takes, for this and every later attempt."""
        return self.tables.sequences.seal_heap(sequence, run, paths, closings)

    async def expire(self, now_ms: int, limit: int) -> Commit:
        """Note which sequences' time is up, and let their gathers release what there is."""
        commit = Commit()
        self._send(self.tables.sequences.expire(now_ms, limit), commit)
        return commit

    def next_deadline_ms(self) -> int | None:
        """Say when the time of the next sequence is up."""
        open_ones = self.tables.sequences.waiting()
        return min((row.opening.deadline_ms for row in open_ones), default=None)

    async def flights(self, limit: int) -> list[Flight]:
        """List open sequences, what moved longest ago first."""
        return flights_in(self.tables, limit)

    async def held(self, sequences: Sequence[str], ids: Sequence[str] = ()) -> list[Held]:
        """List packets that stand in these sequences, or are to move them on, or have an id."""
        return held_in(self.tables, sequences, ids)

    async def find_split(self, message_id: str) -> SplitRow | None:
        """Say how far a split has come that takes several commits; None: none goes on."""
        found = self.tables.splits.get(message_id)
        return None if found is None else found[1]

    # -- what handlers ask for ---------------------------------------------------------------

    async def load_states(self, keys: Sequence[StateKey]) -> dict[StateKey, tuple[int, bytes]]:
        """Read states with their versions; those that are not there are left out."""
        states = self.tables.states
        return {key: states[key] for key in keys if key in states}

    async def recall(self, message_id: str, name: str) -> bytes | None:
        """Read what `ctx.once` kept for a message."""
        return self.tables.once.get((message_id, name))

    async def remember(self, message_id: str, name: str, value: bytes) -> bytes:
        """Keep a result of `ctx.once`; the first one wins."""
        return self.tables.once.setdefault((message_id, name), value)

    # -- the way in and out ------------------------------------------------------------------

    async def accept(
        self,
        packets: Sequence[Packet],
        later: Sequence[Due],
        key: KeyRow | None,
        streamed: Sequence[Streamed] = (),
    ) -> tuple[Commit, KeyRow | None]:
        """Take in what a client sends, in one commit; or nothing, if its key is taken."""
        self._check()
        if (prior := self._take_key(key)) is not None:
            return Commit(), prior
        commit, t = Commit(), self.tables
        now, due = t.sequences.stream(streamed, t.clock.now_ms())
        self._send([*packets, *now], commit)
        self._plan([*later, *due], commit)
        return commit, None

    async def accept_all(
        self, requests: Sequence[Accept]
    ) -> tuple[Commit, list[KeyRow | None]]:
        """Take in what several clients send, in one commit."""
        self._check()
        commit, priors = Commit(), [self._take_key(one.key) for one in requests]
        for one, prior in zip(requests, priors, strict=True):
            if prior is None:
                self._send(one.packets, commit)
                self._plan(one.later, commit)
        return commit, priors

    def _take_key(self, key: KeyRow | None) -> KeyRow | None:
        """Take a key; return the earlier request with it, if there was one."""
        keys = self.tables.keys
        if key is None:
            return None
        if key.key in keys:
            return keys[key.key][1]
        keys[key.key] = (self.tables.clock.now_ms(), key)
        return None

    async def backlogs(self, sequences: Sequence[str]) -> dict[str, int]:
        """Say how many positions of these streams were given and not released."""
        return self.tables.sequences.backlogs(sequences)

    async def accept_via(
        self, via: Executes, packets: Sequence[Packet], later: Sequence[Due]
    ) -> set[str]:
        """Refuse: nobody else has a transaction here."""
        del via, packets, later
        raise self._no_sql("client.send(via=...)")

    async def find_key(self, key: str) -> KeyRow | None:
        """Look up an idempotency key."""
        found = self.tables.keys.get(key)
        return None if found is None else found[1]

    async def replies(self, after: Mapping[str, int], limit: int) -> list[Reply]:
        """Read replies by root, each after its `n`, in order of `n`."""
        found = [r for _, r in self.tables.replies if r.root in after and r.n > after[r.root]]
        return found[:limit]

    async def last_reply(self, root: str, types: Sequence[str]) -> Reply | None:
        """Read the newest reply of these types, or the failure, of a root."""
        own = [reply for _, reply in reversed(self.tables.replies) if reply.root == root]
        answers = (reply for reply in own if not reply.is_failure and reply.type in types)
        failures = (reply for reply in own if reply.is_failure)
        return next(answers, None) or next(failures, None)

    # -- the relay ---------------------------------------------------------------------------

    async def move_due(self, now_ms: int, limit: int) -> Commit:
        """Move what is due from the schedule to the outbox."""
        schedule = self.tables.schedule
        due = sorted((d.due_ms, n) for n, d in schedule.items() if d.due_ms <= now_ms)[:limit]
        commit = Commit(moved=len(due))
        for due_ms, n in due:
            packet = schedule.pop(n).packet
            self._send([msgspec.structs.replace(packet, birth_ms=due_ms)], commit)
        return commit

    async def next_due_ms(self) -> int | None:
        """Say when the next packet is due."""
        return min((due.due_ms for due in self.tables.schedule.values()), default=None)

    async def adopt(self, limit: int) -> list[Outgoing]:
        """Take over outbox rows of instances that crashed."""
        rows = self.tables.outbox
        orphans = [n for n, row in rows.items() if row.owner == ORPHAN][:limit]
        for n in orphans:
            rows[n].owner = self.owner
        return [Outgoing(n, packet) for n in orphans for packet in rows[n].packets]

    def on_doubt(self, tell: Callable[[], None]) -> None:
        """Call it at once, see below."""
        tell()

    @property
    def is_in_doubt(self) -> bool:
        """Always: looking costs nothing here, and tests lose answers as they like."""
        return True

    async def unsent(self, known: Sequence[int], limit: int) -> list[Outgoing]:
        """List outbox rows of this process that it does not know of."""
        rows = self.tables.outbox
        mine = [n for n, row in rows.items() if row.owner == self.owner and n not in set(known)]
        return [Outgoing(n, packet) for n in mine[:limit] for packet in rows[n].packets]

    async def forget(self, sent: Sequence[int]) -> None:
        """Delete outbox rows that the broker confirmed."""
        self._check()
        t = self.tables
        for n in sent:
            row = t.outbox.pop(n, None)
            if row is not None and self.keeps_sent:
                t.sent.append(SentRow(t.next_number(), t.clock.now_ms(), row.packets))

    async def sent(self, which: SentBetween, *, after: int, limit: int) -> list[SentRow]:
        """Read rows of what was sent, in order, behind the row numbered `after`."""
        since_ms, until_ms = which.since_ms, which.until_ms
        rows = [row for row in self.tables.sent if since_ms <= row.at_ms < until_ms]
        return [row for row in rows if row.n > after][:limit]

    async def keep_house(self, now_ms: int) -> None:
        """Drop replies, keys and blobs that are over; the inbox needs no days made."""
        t = self.tables
        oldest_ms = now_ms - t.results_s * 1000
        t.replies = [(at, reply) for at, reply in t.replies if at >= oldest_ms]
        t.keys = {name: row for name, row in t.keys.items() if row[0] >= oldest_ms}
        sweep(t, now_ms)


def _inbox_key(step: Step) -> tuple[str, int, int]:
    return (step.id, step.generation, step.birth_ms // DAY_MS)
