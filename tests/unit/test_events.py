"""What observers of events are told, and that none of them harms a message."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest
import structlog

from rolekit import App, Context, Message, Reject, Retry, WorkerRole, events, handle
from rolekit.errors import ConfigError
from rolekit.testing import run_app
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

pytestmark = [pytest.mark.anyio]


class Job(Message):
    """Says how it ends."""

    ends: str


class Worker(WorkerRole):
    """Does so."""

    @handle
    async def work(self, job: Job, ctx: Context) -> None:
        if job.ends == "retry":
            raise Retry("later", delay_s=60)
        if job.ends == "reject":
            raise Reject("no such job")


app = App("observed", roles=[Worker])


@asynccontextmanager
async def observing(
    observer: Callable[[events.Event], None], kind: type[events.Event] = events.Event
) -> AsyncGenerator[None]:
    events.observe(kind)(observer)
    try:
        yield
    finally:
        await anyio.to_thread.run_sync(events.drain, patient(5))
        events.forget(observer)


async def run(*ends: str) -> list[str]:
    """Send jobs; return their ids, when all had an outcome."""
    async with run_app(app) as running:
        receipts = [await running.client.send(Job(ends=one)) for one in ends]
        await running.idle()
    return [receipt.id for receipt in receipts]


async def test_each_kind_is_told_of_what_happened() -> None:
    told: list[events.Event] = []

    async with observing(told.append):
        done, retried, dead = await run("done", "retry", "reject")

    started, *between, stopped = told
    assert isinstance(started, events.Started)
    assert isinstance(stopped, events.Stopped)
    assert (started.role, stopped.role, stopped.why) == ("Worker", "Worker", "")
    (handled,) = [one for one in between if isinstance(one, events.Handled)]
    assert (handled.message, handled.handler) == (done, "Worker.work")
    assert handled.took_s >= 0
    (again,) = [one for one in between if isinstance(one, events.Retried)]
    assert (again.message, again.error, again.detail) == (retried, "Retry", "later")
    (parked,) = [one for one in between if isinstance(one, events.DeadLettered)]
    assert (parked.message, parked.type, parked.handler) == (dead, "Job", "Worker.work")
    assert "no such job" in parked.reason


async def test_an_observer_that_raises_harms_neither_messages_nor_other_observers() -> None:
    told: list[events.Event] = []

    def raising(event: events.Event) -> None:
        raise ValueError(event)

    with structlog.testing.capture_logs() as logs:
        async with observing(raising), observing(told.append):
            await run("done", "done")

    assert sum(isinstance(one, events.Handled) for one in told) == 2
    (said,) = [one for one in logs if one["event"].startswith("an observer raised")]
    assert "raising" in said["observer"]


async def test_messages_do_not_wait_for_an_observer_that_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rolekit.events.WAITING", 3)
    monkeypatch.setattr("rolekit.roles.host.LAST_EVENTS_S", 0.01)
    monkeypatch.setattr("rolekit.events._desk.dropped", 0)  # and as before, for other tests
    let = threading.Event()
    seen: list[events.Event] = []

    def slow(event: events.Event) -> None:
        let.wait(patient(20))
        seen.append(event)

    with structlog.testing.capture_logs() as logs:
        async with observing(slow):
            try:
                ids = await run(*["done"] * 8)
                lost = events.dropped()
            finally:
                let.set()

    assert len(ids) == 8
    assert lost >= 5
    assert len(seen) == 3
    assert any(one["event"].startswith("observers are slow") for one in logs)


async def test_of_what_nobody_observes_nothing_is_made() -> None:
    deaths: list[events.Event] = []

    async with observing(deaths.append, events.DeadLettered):
        is_handled_told = events.is_observed(events.Handled)
        await run("done", "reject")

    assert not is_handled_told
    assert [type(one) for one in deaths] == [events.DeadLettered]
    assert not events.is_observed(events.DeadLettered)


def test_an_observer_that_is_asynchronous_is_refused() -> None:
    async def page(event: events.DeadLettered) -> None:
        """Wait for nothing."""

    with pytest.raises(ConfigError, match="observes DeadLettered and is asynchronous"):
        events.observe(events.DeadLettered)(page)  # type: ignore[arg-type]  # what is refused


FORKS = """
import os
from rolekit import events

told = []
events.observe(events.Started)(told.append)
with events.silenced():
    events.emit(events.Started(role="rehearsed"))
assert len(os.listdir("/proc/self/task")) == 1
pid = os.fork()
events.emit(events.Started(role=str(pid)))
assert events.drain(10)
assert [one.role for one in told] == [str(pid)], told
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_each_process_has_a_thread_of_its_own_and_a_rehearsal_has_none() -> None:
    subprocess.run([sys.executable, "-c", FORKS], check=True)
