"""The suite of stores on the one in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.clock import SystemClock
from rolekit.errors import RolekitError, StateClash, Unavailable
from rolekit.store.base import StateChange, StateKey, Write
from rolekit.store.memory import MemoryStore
from rolekit.store.memory_tables import MemoryTables
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
from tests.conformance.store import error_of, id_of, packet, step

if TYPE_CHECKING:
    from rolekit.store.base import Store

pytestmark = pytest.mark.anyio


class MemoryGround:
    """Views of the same tables."""

    def __init__(self) -> None:
        self.tables = MemoryTables(SystemClock())
        self._opened = 0

    async def open(self) -> MemoryStore:
        self._opened += 1
        store = MemoryStore(self.tables, owner=self._opened)
        await store.start()
        return store

    async def die(self, store: Store) -> None:
        assert isinstance(store, MemoryStore)
        store.crash()

    def forget_results(self, store: Store) -> None:
        self.tables.results_s = 0


@pytest.fixture
def ground() -> MemoryGround:
    return MemoryGround()


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


class TestMeeting(runs.Meeting):
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


async def test_writes_are_recorded_with_their_commit_only(ground: MemoryGround) -> None:
    store = await ground.open()
    write = Write("insert into t values ($1)", (1,))
    clash = step(1, states=[StateChange(StateKey("s", "n", "k"), 7, b"")])
    clash.writes = [write]
    good = step(2)
    good.writes = [write]

    error = await error_of(store.commit([clash]))
    await store.commit([good])
    await store.commit([good])

    assert isinstance(error, StateClash)
    assert ground.tables.writes == [write]


async def test_sql_is_refused_and_the_refusal_remembered(ground: MemoryGround) -> None:
    store = await ground.open()

    errors = [await error_of(store.begin(id_of(1), 0, 0))]
    with pytest.raises(RolekitError, match="rolekit_database"):
        store.transaction()

    assert "run_app(app, database=rolekit_database)" in str(errors[0])
    assert len(ground.tables.refused) == 2


async def test_a_view_that_crashed_commits_nothing(ground: MemoryGround) -> None:
    store = await ground.open()
    store.crash()

    for work in (store.commit([step(1)]), store.accept([packet(1)], [], None)):
        assert isinstance(await error_of(work), Unavailable)

    assert ground.tables.inbox == set()
