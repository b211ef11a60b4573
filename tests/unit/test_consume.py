"""Runners: what one handler leaves behind, and what becomes of them at a stop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import ContextVar

import pytest
from structlog.contextvars import bind_contextvars, get_contextvars

from rolekit import Context, Message, State, WorkerRole, handle
from tests.patience import patient
from tests.unit.fakes_flow import SOON_S, Line, Note, working
from tests.unit.fakes_rabbitmq import turns

pytestmark = pytest.mark.anyio

user: ContextVar[str] = ContextVar("user", default="nobody")


class Marking(WorkerRole):
    """Sets what should be its message's own."""

    concurrency = 1

    def __init__(self) -> None:
        self.users: list[str] = []
        self.logged: list[dict[str, object]] = []

    @handle
    async def mark(self, note: Note) -> None:
        self.users.append(user.get())
        self.logged.append(get_contextvars())
        if note.n == 1:
            user.set("somebody")
        if note.n == 2:
            bind_contextvars(message=note.n)


async def test_what_a_handler_sets_in_its_context_is_not_seen_by_the_next() -> None:
    line = Line(Marking)

    async with working(line) as role:
        await line.send(Note(n=1), Note(n=3))
        await line.idle()

    assert role.users == ["nobody", "nobody"]


async def test_what_a_handler_binds_to_its_log_lines_is_not_in_those_of_the_next() -> None:
    line = Line(Marking)

    async with working(line) as role:
        await line.send(Note(n=2), Note(n=3))
        await line.idle()

    assert role.logged == [{}, {}]


async def test_what_was_set_before_the_start_is_seen_by_every_handler() -> None:
    token = user.set("the process")
    line = Line(Marking)
    user.reset(token)

    async with working(line) as role:
        await line.send(Note(n=1), Note(n=3))
        await line.idle()

    assert role.users == ["the process", "the process"]


class Kept(State):
    """A state that one has and another wants."""


class Holding(WorkerRole):
    """Take a state, one after the other, and go on for ever with it."""

    concurrency = 16

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)

    @handle
    async def hold(self, note: Note, ctx: Context) -> None:
        self.begun.release()
        await ctx.state(Kept, key="one")
        await asyncio.Event().wait()


async def test_a_stop_ends_one_that_has_a_state_and_those_that_wait_for_it_at_once() -> None:
    line = Line(Holding)

    async with working(line) as role:
        await line.send(*(Note(n=n) for n in range(16)))
        for _ in range(16):
            await role.begun.acquire()
        await turns()
        async with asyncio.timeout(SOON_S):
            await line.consumer.stop(0)

    assert line.transport.broker.depth("Holding.hold").waiting == 16
    assert line.store.tables.inbox == set()


class Stubborn(WorkerRole):
    """Does not hear that it is cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    @handle
    async def work(self, note: Note) -> None:
        self.begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def test_a_stop_ends_with_a_handler_that_swallows_its_cancellation() -> None:
    line = Line(Stubborn)

    async with working(line) as role:
        await line.send(Note(n=1))
        await role.begun.wait()
        async with asyncio.timeout(SOON_S):
            await line.consumer.stop(0)

    assert line.consumer.handled == 1


class Other(Message):
    """Waits in another lane than `Note`."""


class ForThread(Message):
    """For a handler that is no coroutine."""

    n: int


class OtherForThread(Message):
    """For another one."""

    n: int


class Sharing(WorkerRole):
    """Two handlers, one at a time."""

    concurrency = 1

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    @handle
    async def slow(self, note: Note) -> None:
        self.begun.set()
        await self.may_end.wait()

    @handle
    async def quick(self, other: Other) -> None:
        """Do nothing."""


async def test_a_stop_finishes_what_waits_in_hand_rather_than_hand_it_back() -> None:
    line = Line(Sharing)

    async with working(line) as role:
        await line.send(Note(n=1))
        await role.begun.wait()
        await line.send(Other())
        await turns()
        stopping = asyncio.create_task(line.consumer.stop(SOON_S))
        await turns()
        role.may_end.set()
        await stopping

    assert line.consumer.handled == 2
    assert line.transport.broker.depth("Sharing.quick").waiting == 0


class Uneven(WorkerRole):
    """One handler takes its time, and one is quick; `def` handlers beside them likewise."""

    concurrency = 60

    def __init__(self) -> None:
        self.begun, self.went = asyncio.Semaphore(0), asyncio.Semaphore(0)
        self.may_end, self.may_go = asyncio.Event(), threading.Event()
        self.loop = asyncio.get_running_loop()

    @handle
    async def slow(self, note: Note) -> None:
        self.begun.release()
        await self.may_end.wait()

    @handle
    async def quick(self, other: Other) -> None:
        await asyncio.sleep(0)
        self.went.release()

    @handle
    def slow_thread(self, note: ForThread) -> None:
        self.loop.call_soon_threadsafe(self.begun.release)
        self.may_go.wait()

    @handle
    def quick_thread(self, other: OtherForThread) -> None:
        self.loop.call_soon_threadsafe(self.went.release)


async def test_a_slow_handler_with_a_backlog_does_not_starve_a_quick_one() -> None:
    line = Line(Uneven)

    async with working(line) as role:
        await line.send(*(Note(n=n) for n in range(200)))
        for _ in range(57):
            await role.begun.acquire()
        await line.send(*(Other() for _ in range(20)))
        async with asyncio.timeout(patient(1.0)):
            for _ in range(20):
                await role.went.acquire()
        role.may_end.set()
        await line.idle()

    assert line.consumer.handled == 220


async def test_a_slow_handler_in_threads_does_not_starve_a_quick_one_in_threads() -> None:
    line = Line(Uneven)

    async with working(line) as role:
        await line.send(*(ForThread(n=n) for n in range(100)))
        try:
            for _ in range(40):
                await role.begun.acquire()
            await line.send(OtherForThread(n=1))
            async with asyncio.timeout(patient(1.0)):
                await role.went.acquire()
        finally:
            role.may_go.set()
        await line.idle()

    assert line.consumer.handled == 101
