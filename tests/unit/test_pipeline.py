"""What becomes of a delivery when its handler, its commit or its instance goes wrong."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from rolekit import Backoff, Context, Message, State, WorkerRole, handle
from rolekit.errors import Reject, StateClash, WriteFailed
from rolekit.flow import pipeline
from rolekit.model.codec import decode_value
from rolekit.store.memory import MemoryStore
from tests.unit.fakes_flow import SOON_S, Line, Note, Refusing, working
from tests.unit.fakes_rabbitmq import turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.store.base import Commit, Step

pytestmark = pytest.mark.anyio

ONCE = Backoff(attempts=1)


class Fleeting(Message):
    """May fail, and comes again."""

    n: int


class Fragile(WorkerRole):
    """Awaits what somebody else has cancelled."""

    concurrency = 1

    def __init__(self) -> None:
        self.handled: list[int] = []

    @handle(retry=ONCE)
    async def note(self, note: Note) -> None:
        await self._work(note.n)

    @handle
    async def fleeting(self, fleeting: Fleeting) -> None:
        await self._work(fleeting.n)

    async def _work(self, n: int) -> None:
        if n == 1:
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone
        self.handled.append(n)


async def test_a_handler_that_awaits_what_was_cancelled_elsewhere_fails_and_others_go_on() -> (
    None
):
    line = Line(Fragile)

    async with working(line) as role:
        await line.send(Note(n=1), Note(n=2), Note(n=3))
        await line.idle()

    assert role.handled == [2, 3]
    assert len(line.reasons) == 1
    assert "cancelled" in line.reasons[0]


async def test_what_was_cancelled_within_a_handler_is_tried_again_by_its_policy() -> None:
    line = Line(Fragile)

    async with working(line):
        await line.send(Fleeting(n=1))
        await line.idle()

    assert [due.packet.generation for due in line.store.tables.schedule.values()] == [1]
    assert line.reasons == []


class Writing(WorkerRole):
    """Writes, by two handlers; the second waits at a gate."""

    concurrency = 1

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.gate = asyncio.Event()
        self.running = self.most = 0

    @handle(retry=ONCE)
    async def write(self, note: Note, ctx: Context) -> None:
        self._begin(note.n, ctx)
        self.running -= 1

    @handle
    async def wait(self, fleeting: Fleeting, ctx: Context) -> None:
        self._begin(fleeting.n, ctx)
        await self.gate.wait()
        self.running -= 1

    def _begin(self, n: int, ctx: Context) -> None:
        ctx.write("insert into t values ($1)", n)
        self.begun.append(n)
        self.running += 1
        self.most = max(self.most, self.running)


async def test_a_failure_that_cannot_be_recorded_is_handed_back_and_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "HAND_BACK_S", 0.0)
    line = Line(Writing, Refusing(WriteFailed("no such table"), WriteFailed("disk full")))

    with capture_logs() as logs:
        async with working(line) as role:
            await line.send(Note(n=1))
            await line.idle()

    assert role.begun == [1, 1]
    assert [write.args for write in line.store.tables.writes] == [(1,)]
    assert line.reasons == []
    assert "handing back what cannot be recorded" in [entry["event"] for entry in logs]


async def test_what_clashed_runs_again_in_its_turn_and_not_beside_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "REDO_S", 0.0)
    store = Refusing(StateClash("It changed meanwhile."))
    line = Line(Writing, store)

    async with working(line) as role:
        await line.send(Note(n=1), Fleeting(n=2))
        await store.refused.acquire()
        await turns(20)
        while_it_waits = list(role.begun)
        role.gate.set()
        await line.idle()

    assert while_it_waits == [1, 2]
    assert role.begun == [1, 2, 1]
    assert role.most == 1
    assert sorted(write.args for write in store.tables.writes) == [(1,), (2,)]


class Total(State):
    """What was added up."""

    n: int = 0


class Adding(WorkerRole):
    """Adds to one state."""

    def __init__(self) -> None:
        self.added = asyncio.Semaphore(0)

    @handle
    async def add(self, note: Note, ctx: Context) -> None:
        total = await ctx.state(Total, key="all")
        total.n += note.n
        self.added.release()


class Held(MemoryStore):
    """Holds its commits until the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def commit(self, steps: Sequence[Step]) -> Commit:
        await self.gate.wait()
        return await super().commit(steps)


async def test_nothing_that_another_process_added_is_lost_to_one_that_went_on_from_less() -> (
    None
):
    held = Held()
    here, there = Line(Adding, held), Line(Adding, MemoryStore(held.tables, owner=2))

    async with working(here) as adding, working(there), asyncio.timeout(SOON_S):
        await here.send(Note(n=1))
        await adding.added.acquire()
        await here.send(Note(n=10))  # goes on from what the first made of it
        await adding.added.acquire()
        await there.send(Note(n=100))
        await there.idle()
        held.gate.set()
        await here.idle()

    ((_, body),) = held.tables.states.values()
    assert decode_value(Total, body) == Total(n=111)


class Selling(WorkerRole):
    """Puts things on a shelf, or takes them away; refuses where there are none."""

    @handle
    async def sell(self, note: Note, ctx: Context) -> None:
        total = await ctx.state(Total, key="all")
        if total.n + note.n < 0:
            raise Reject(f"sold out: {total.n}")
        total.n += note.n


async def test_nobody_is_refused_over_a_state_that_another_process_has_changed() -> None:
    store = MemoryStore()
    here, there = Line(Selling, store), Line(Selling, MemoryStore(store.tables, owner=2))

    async with working(here), working(there), asyncio.timeout(SOON_S):
        for change in (1, -1):  # now it is kept here that there is none
            await here.send(Note(n=change))
            await here.idle()
        await there.send(Note(n=5))
        await there.idle()
        await here.send(Note(n=-1))
        await here.idle()

    ((_, body),) = store.tables.states.values()
    assert decode_value(Total, body) == Total(n=4)
    assert not store.tables.dead


class Threaded(WorkerRole):
    """Works in a thread."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    @handle(retry=ONCE, timeout_s=0.05)
    def work(self, note: Note) -> None:
        if note.n == 1:
            raise TimeoutError("The peer said nothing.")
        self.gate.wait(SOON_S)


async def test_a_time_out_that_a_handler_raises_itself_replaces_no_instance() -> None:
    line = Line(Threaded)

    async with working(line):
        await line.send(Note(n=1))
        await line.idle()

    assert line.recycled == []
    assert "The peer said nothing." in line.reasons[0]


async def test_a_thread_that_overruns_its_time_has_its_instance_replaced() -> None:
    line = Line(Threaded)

    async with working(line) as role:
        await line.send(Note(n=2))
        await line.idle()
        role.gate.set()

    assert line.recycled == ["Threaded.work overran its 0.05 s in a thread"]
    assert "longer than 0.05 s" in line.reasons[0]
