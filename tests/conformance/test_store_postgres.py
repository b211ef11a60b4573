"""The suite of stores on Postgres, the oldest that is supported and the embedded one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rolekit import link
from rolekit.database import Database
from rolekit.errors import FenceLost, TooOld, WriteFailed, WriteMissed
from rolekit.store.base import (
    OUTBOX,
    SCHEDULE,
    Due,
    Outcome,
    StateChange,
    StateKey,
    Step,
    Taken,
    Write,
)
from rolekit.store.migrate import migrate
from rolekit.store.postgres import PostgresStore
from rolekit.store.postgres.host import PostgresHost
from rolekit.store.postgres.rows import DAY_MS
from rolekit.store.postgres.steps import StepStore
from tests.conformance import schemas
from tests.conformance import store as steps
from tests.conformance import store_blobs as blobs
from tests.conformance import store_buckets as buckets
from tests.conformance import store_flights as flights
from tests.conformance import store_heaps as heaps
from tests.conformance import store_keys as keys
from tests.conformance import store_letters as letters
from tests.conformance import store_runs as runs
from tests.conformance import store_sent as sending
from tests.conformance import store_sequences as sequences
from tests.conformance import store_services as services
from tests.conformance import store_splits as splits
from tests.conformance import store_states as states
from tests.conformance import store_streams as streams
from tests.conformance import store_timers as timers
from tests.conformance import store_whole as whole
from tests.conformance.store import error_of, id_of, now_ms, packet, sent, step
from tests.least import worker_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.store.base import Store

pytestmark = pytest.mark.anyio


class PostgresGround:
    """Views of one schema, under the lease of one host; with the least rights, but for its own.

    Attributes:
        database: As the owner sees it.
    """

    def __init__(self, url: str, app: str) -> None:
        self._url = url
        self._app = app
        self._opened: dict[PostgresStore, int] = {}
        self._databases: list[Database] = []
        self.database = self._connect()
        self.host = PostgresHost([self.database])

    def _connect(self) -> Database:
        database = Database(self._url, self._app, max_connections=4)
        self._databases.append(database)
        return database

    async def start(self) -> None:
        self._url = await worker_of(self.database)
        await migrate(self.database)
        async with self.database.connection() as connection:
            await schemas.note(self._app, connection)
            await connection.execute("create table effect (n int)")
        self.host = PostgresHost([self._connect()])
        await self.host.start()

    async def open(self, *, joins: bool = False) -> PostgresStore:
        database = self._connect()
        owner = self.host.epoch << link.OWNER_BITS | len(self._databases)
        store = PostgresStore(database, owner=owner, joins=joins)
        self._opened[store] = owner
        await store.start()
        return store

    async def die(self, store: Store) -> None:
        assert isinstance(store, PostgresStore)
        await self.host.release(self._opened[store])

    def forget_results(self, store: Store) -> None:
        assert isinstance(store, PostgresStore)
        store.results_s = 0

    def insert(self, n: int, *, expect: int | None = None) -> Write:
        return Write("insert into effect values ($1)", (n,), expect)

    async def effects(self) -> list[int]:
        async with self.database.connection() as connection:
            found = await connection.fetch("select n from effect")
        return [row["n"] for row in found]

    async def tags(self) -> list[int]:
        async with self.database.connection() as connection:
            table = f"{self.database.schema}.queue"
            found = await connection.fetch(f"select n from {table} order by n")  # noqa: S608 - ours
        return [row["n"] for row in found]

    async def stop(self) -> None:
        async with self.database.connection() as connection:
            await connection.execute("drop table effect")
        for database in self._databases:
            await database.close()


@asynccontextmanager
async def standing(url: str) -> AsyncGenerator[PostgresGround]:
    async with schemas.lent(url) as app:
        ground = PostgresGround(url, app)
        await ground.start()
        try:
            yield ground
        finally:
            await ground.stop()


@pytest.fixture
async def ground(shared_url: str) -> AsyncGenerator[PostgresGround]:
    async with standing(shared_url) as ground:
        yield ground


class TestCommitting(steps.Committing):
    """See `tests.conformance.store`."""


class TestWhole(whole.Whole):
    """See `tests.conformance.store_whole`."""


class TestSent(sending.Sent):
    """See `tests.conformance.store_sent`."""


class TestStates(states.States):
    """See `tests.conformance.store_states`."""


class TestTokens(states.Tokens):
    """See `tests.conformance.store_states`."""


class TestPartitions(keys.Partitions):
    """See `tests.conformance.store_keys`."""


class TestHeldKeys(keys.HeldKeys):
    """See `tests.conformance.store_keys`."""


class TestSequences(sequences.Sequences):
    """See `tests.conformance.store_sequences`."""


class TestHeaps(heaps.Heaps):
    """See `tests.conformance.store_heaps`."""


class TestFlights(flights.Flights):
    """See `tests.conformance.store_flights`."""


class TestSplits(splits.Splits):
    """See `tests.conformance.store_splits`."""


class TestStreams(streams.Streams):
    """See `tests.conformance.store_streams`."""


class TestSealing(runs.Sealing):
    """See `tests.conformance.store_runs`."""


class TestExpiring(runs.Expiring):
    """See `tests.conformance.store_runs`."""


class TestSpentBlobs(blobs.SpentBlobs):
    """See `tests.conformance.store_blobs`."""


class TestKeeping(services.Keeping):
    """See `tests.conformance.store_services`."""


class TestIntake(services.Intake):
    """See `tests.conformance.store_services`."""


class TestReplies(services.Replies):
    """See `tests.conformance.store_services`."""


class TestRelaying(services.Relaying):
    """See `tests.conformance.store_services`."""


class TestDead(letters.Dead):
    """See `tests.conformance.store_letters`."""


class TestAnswers(letters.Answers):
    """See `tests.conformance.store_letters`."""


class TestTimers(timers.Timers):
    """See `tests.conformance.store_timers`."""


class TestBuckets(buckets.Buckets):
    """See `tests.conformance.store_buckets`."""


class TestMeeting(runs.Meeting):
    """See `tests.conformance.store_runs`; here many times, since commits overlap."""

    @pytest.mark.timeout(60)
    async def test_no_wake_up_is_ever_lost_in_many_sequences(self, shared_url: str) -> None:
        for _ in range(12):
            async with standing(shared_url) as ground:
                await self.test_no_wake_up_is_ever_lost(ground)


def writing(number: int, *writes: Write) -> Step:
    made = step(number)
    made.writes = writes
    return made


async def test_writes_happen_with_their_step_in_order(ground: PostgresGround) -> None:
    store = await ground.open()
    update = Write("update effect set n = n * 10", (), 2)

    await store.commit([writing(1, ground.insert(1), ground.insert(2), update)])
    await store.commit([writing(1, ground.insert(3))])

    assert sorted(await ground.effects()) == [10, 20]


@pytest.mark.parametrize("bad", [0, 1])
async def test_a_write_that_fails_undoes_the_whole_batch(
    ground: PostgresGround, bad: int
) -> None:
    store = await ground.open()
    writes = [ground.insert(2, expect=2), Write("insert into nowhere values (1)", ())]
    culprit = writing(2, writes[bad])
    good = writing(1, ground.insert(1))
    good.outputs, good.outcome = [packet(1)], Outcome.DONE

    error = await error_of(store.commit([good, culprit]))
    again = await store.commit([good])

    assert type(error) is [WriteMissed, WriteFailed][bad]
    assert (again.fresh, sent(again)) == ({(id_of(1), 0)}, [1])
    assert await ground.effects() == [1]


@pytest.mark.parametrize("bad", [(0,), (7,), (3, 4), (0, 5, 9), tuple(range(10))])
async def test_the_store_tells_whose_statements_are_refused(
    ground: PostgresGround, bad: Sequence[int]
) -> None:
    store = await ground.open()
    await store.commit([step(99), *(writing(n, ground.insert(n)) for n in (20, 21))])
    missed = Write("update effect set n = n where n = 404", (), 1)
    share = "insert into effect values (12 / $1::int)"  # one text: they are sent together
    refused = [Write(share, (0,)), missed]
    steps = [writing(n, refused[n % 2] if n in bad else Write(share, (1,))) for n in range(10)]
    twin = writing(20, refused[0])  # had its outcome before, so it does not run

    found = await store.suspects([*steps[:5], twin, *steps[5:]])

    assert [one.id for one in found] == [id_of(n) for n in bad]
    assert sorted(await ground.effects()) == [20, 21]
    again = await store.commit([step(n) for n in range(10)])
    assert len(again.fresh) == 10


async def test_nobody_is_suspected_of_what_is_refused_at_the_commit(
    ground: PostgresGround,
) -> None:
    store = await ground.open()
    async with ground.database.connection() as connection:
        await connection.execute(
            "alter table effect add unique (n) deferrable initially deferred"
        )
    steps = [writing(n, ground.insert(n // 2)) for n in range(10)]

    error = await error_of(store.commit(steps))

    assert isinstance(error, WriteFailed)
    assert await store.suspects(steps) == []


async def test_nobody_is_suspected_where_all_had_their_outcome(ground: PostgresGround) -> None:
    store = await ground.open()
    await store.commit([step(1)])

    assert await store.suspects([step(1)]) == []


async def test_writes_of_one_text_are_sent_together_and_stay_in_their_place(
    ground: PostgresGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, together = await ground.open(), list[int]()
    really = asyncpg.Connection.executemany

    async def executemany(
        self: asyncpg.Connection[asyncpg.Record], command: str, args: Sequence[Sequence[object]]
    ) -> None:
        together.append(len(args))
        await really(self, command, args)

    monkeypatch.setattr(asyncpg.Connection, "executemany", executemany)
    double = Write("update effect set n = n * 2", ())
    few = [writing(n, ground.insert(n), double) for n in (1, 2)]
    many = [writing(n, ground.insert(n)) for n in (3, 4, 5)]
    counted = writing(6, Write("update effect set n = n + 100", (), 5))

    await store.commit([*few, *many, counted, writing(7, double)])

    assert sorted(await ground.effects()) == [206, 208, 208, 208, 210]
    assert together == [3]


@pytest.mark.parametrize(
    "bad", [(-1,), ("one",), ()], ids=["refused", "of another type", "none"]
)
async def test_one_bad_write_among_many_of_its_text_is_found_by_halving(
    ground: PostgresGround, bad: tuple[object, ...]
) -> None:
    async with ground.database.connection() as connection:
        await connection.execute("alter table effect add check (n >= 0)")
    store = await ground.open()
    several = [writing(n, ground.insert(n)) for n in range(9)]
    several[6].writes = [Write("insert into effect values ($1)", bad)]

    errors = [await error_of(store.commit(some)) for some in (several, several[6:7])]
    rest = await store.commit(several[:6] + several[7:])

    assert [type(error) for error in errors] == [WriteFailed, WriteFailed]
    assert len(rest.fresh) == 8
    assert await ground.effects() == [0, 1, 2, 3, 4, 5, 7, 8]


async def test_a_day_that_is_not_there_yet_is_made_by_keeping_house(
    ground: PostgresGround,
) -> None:
    store = await ground.open()
    later_ms = now_ms() + 10 * DAY_MS
    early = await error_of(store.commit([step(1, birth_ms=later_ms)]))

    await store.keep_house(later_ms)
    commit = await store.commit([step(1, birth_ms=later_ms)])

    assert isinstance(early, TooOld)
    assert len(commit.fresh) == 1


async def test_a_step_in_a_transaction_commits_with_it(ground: PostgresGround) -> None:
    store = await ground.open()
    one = step(1, outputs=[packet(10)])

    opened = await store.begin(one.id, one.generation, one.birth_ms)
    write = ground.insert(1)
    touched = await opened.transaction.execute(write.sql, write.args)
    rows = await opened.transaction.fetch("select n from effect", ())
    before = await ground.effects()
    commit = await opened.finish(one)
    await opened.abandon()

    assert (touched, rows, before) == (1, [{"n": 1}], [])
    assert (commit.fresh, sent(commit)) == ({(id_of(1), 0)}, [10])
    assert await ground.effects() == [1]


async def test_a_step_that_is_abandoned_leaves_nothing(ground: PostgresGround) -> None:
    store = await ground.open()
    one = step(1)

    opened = await store.begin(one.id, one.generation, one.birth_ms)
    write = ground.insert(1)
    await opened.transaction.execute(write.sql, write.args)
    await opened.abandon()
    await opened.abandon()

    assert await ground.effects() == []
    assert len((await store.commit([one])).fresh) == 1


async def test_a_transaction_for_a_row_that_is_taken_is_refused(ground: PostgresGround) -> None:
    store = await ground.open()
    one = step(1)
    await store.commit([one])

    error = await error_of(store.begin(one.id, one.generation, one.birth_ms))

    assert isinstance(error, Taken)


async def test_a_transaction_waits_for_the_one_that_has_its_row(ground: PostgresGround) -> None:
    first, second = await ground.open(), await ground.open()
    one = step(1)
    opened = await first.begin(one.id, one.generation, one.birth_ms)

    waiting = asyncio.create_task(error_of(second.begin(one.id, one.generation, one.birth_ms)))
    await asyncio.wait([waiting], timeout=0.1)
    is_early = waiting.done()
    await opened.finish(one)

    assert not is_early
    assert isinstance(await waiting, Taken)


async def test_a_transaction_of_the_user_commits_when_its_block_ends_well(
    ground: PostgresGround,
) -> None:
    store = await ground.open()
    write = ground.insert(1)

    async with store.transaction() as transaction:
        await transaction.execute(write.sql, write.args)
    with pytest.raises(ZeroDivisionError):
        await failing(store, write)

    assert await ground.effects() == [1]


async def failing(store: PostgresStore, write: Write) -> None:
    async with store.transaction() as transaction:
        await transaction.execute(write.sql, write.args)
        raise ZeroDivisionError


async def test_where_postgres_is_the_broker_outputs_go_into_its_queues_and_claims_end(
    ground: PostgresGround,
) -> None:
    store = await ground.open(joins=True)
    first = await store.commit([step(1, outputs=[packet(1), packet(2, "r")])])
    tags = await ground.tags()
    done, copy = step(2), step(2)
    done.claim, copy.claim = tags

    await store.commit([done])
    held = await ground.tags()
    await store.commit([copy])

    assert (first.leaving, first.topics) == ([], {"q", "r"})
    assert (held, await ground.tags()) == (tags[1:], [])


async def test_where_postgres_is_the_broker_states_get_the_versions_that_changes_name(
    ground: PostgresGround,
) -> None:
    store = await ground.open(joins=True)
    key = StateKey("scope", "Name", "key")
    first = StateChange(key, 0, b"1", token=91)
    second = StateChange(key, 91, b"2", token=17)

    await store.commit([step(1, states=[first])])
    await store.commit([step(2, states=[second])])

    assert await store.load_states([key]) == {key: (17, b"2")}


@pytest.mark.parametrize(
    "args", [(), (1, 2), ("one",)], ids=["too few", "too many", "of another type"]
)
async def test_a_write_with_wrong_arguments_is_the_fault_of_its_step(
    ground: PostgresGround, args: tuple[object, ...]
) -> None:
    store = await ground.open()

    error = await error_of(
        store.commit([writing(1, Write("insert into effect values ($1)", args))])
    )

    assert isinstance(error, WriteFailed)


async def test_a_statement_of_a_transaction_with_wrong_arguments_is_the_fault_of_its_step(
    ground: PostgresGround,
) -> None:
    store = await ground.open()
    opened = await store.begin(id_of(1), 0, now_ms())

    errors = [
        await error_of(opened.transaction.execute("insert into effect values ($1)", ["one"])),
        await error_of(opened.transaction.fetch("select n from effect where n = $1", [])),
    ]
    await opened.abandon()

    assert [type(error) for error in errors] == [WriteFailed, WriteFailed]


async def test_who_does_not_say_that_it_lives_is_no_member_any_more(
    ground: PostgresGround,
) -> None:
    store, other = await ground.open(), await ground.open()
    old = await keys.own(store)
    await other.attend(keys.ROLE)
    await age_members(ground)
    await other.attend(keys.ROLE)  # before its own time is up

    roll = await other.attend(keys.ROLE)
    taken = await other.take(keys.ROLE, [old.partition])

    assert len(roll.members) == 1
    assert taken[0].epoch > old.epoch
    with pytest.raises(FenceLost):
        await store.commit([keys.keyed(1, old)])


async def test_after_an_outage_nobody_judges_others_at_once(ground: PostgresGround) -> None:
    store, other = await ground.open(), await ground.open()
    old = await keys.own(store)
    await other.attend(keys.ROLE)
    await age_members(ground, everybody=True)

    roll = await other.attend(keys.ROLE)
    taken = await other.take(keys.ROLE, [old.partition])

    assert len(roll.members) == 2
    assert taken == []


async def test_a_commit_under_way_is_waited_for_before_its_partition_is_taken(
    ground: PostgresGround,
) -> None:
    store, other = await ground.open(), await ground.open()
    fence = await keys.own(store)
    await other.attend(keys.ROLE)
    await store.leave(keys.ROLE)
    async with ground.database.transaction() as connection:
        sql = store._sql["check_fences"]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        await connection.fetch(sql, [fence.role], [fence.partition], [fence.epoch])

        early = await other.take(keys.ROLE, [fence.partition])

    late = await other.take(keys.ROLE, [fence.partition])
    assert (early, [each.partition for each in late]) == ([], [fence.partition])


@pytest.mark.parametrize("joins", [False, True])
async def test_what_is_sent_via_a_transaction_is_there_for_anybody_once_that_commits(
    ground: PostgresGround, *, joins: bool
) -> None:
    store, relay = await ground.open(joins=joins), await ground.open()
    later = [Due(packet(9), 7)]
    async with ground.database.connection() as connection:
        undone = connection.transaction()
        await undone.start()
        await store.accept_via(connection, [packet(1)], later)
        await undone.rollback()
        async with connection.transaction():
            topics = await store.accept_via(connection, [packet(2), packet(3)], later)
            early = await relay.adopt(10), await ground.tags(), await relay.next_due_ms()

    adopted = [int(out.packet.id, 16) for out in await relay.adopt(10)]
    assert early == ([], [], None)
    assert (adopted, len(await ground.tags())) == (([], 2) if joins else ([2, 3], 0))
    assert await relay.next_due_ms() == 7
    assert topics == {SCHEDULE, "q" if joins else OUTBOX}


async def test_steps_of_many_keys_are_committed_in_one_statement(
    ground: PostgresGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await ground.open()
    fence = await keys.own(store)
    several = [keys.keyed(n, fence) for n in range(1, 4)]
    for one in several:
        one.outputs = [packet(int(one.id, 16) + 50)]
    taken = keys.keyed(1, fence)

    with monkeypatch.context() as patch:
        patch.delattr(StepStore, "begin_keyed")
        commit = await store.commit(several)
    again = await store.commit([taken, keys.keyed(4, fence)])

    assert commit.fresh == {(id_of(n), 0) for n in range(1, 4)}
    assert again.fresh == {(id_of(4), 0)}


async def age_members(ground: PostgresGround, *, everybody: bool = False) -> None:
    """Let members have been silent for a while, all of them or the first one."""
    table = f"{ground.database.schema}.member"
    async with ground.database.connection() as connection:
        await connection.execute(
            f"update {table} set held_since = held_since - interval '60 s'"  # noqa: S608 - ours
        )
        await connection.execute(
            f"update {table} set lease_until = now() - interval '1 s' where $1"  # noqa: S608
            f" or owner = (select min(owner) from {table})",
            everybody,
        )
