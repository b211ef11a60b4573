"""Settings that change while an instance runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping  # noqa: TC003 - read by rolekit
from typing import TYPE_CHECKING, TypeVar

import pytest
from structlog.testing import capture_logs

from rolekit import App, Message, WorkerRole, handle, link
from rolekit.config import Config
from rolekit.database import Database
from rolekit.wiring import instance
from rolekit.wiring.parts import Parts, codec_of, settled
from rolekit.wiring.warming import Common
from tests.unit.fakes_flow import SOON_S, services_of

if TYPE_CHECKING:
    from rolekit.model.plan import AppPlan

pytestmark = pytest.mark.anyio

T = TypeVar("T")

seen: list[dict[str, object]] = []


class Job(Message):
    """Never sent."""


class Worker(WorkerRole):
    """Keeps what it can take."""

    size: int = 1
    name: str = "none"

    @handle
    async def work(self, job: Job) -> None:
        """Never called."""

    async def on_change(self, changed: Mapping[str, object]) -> bool:
        seen.append({**changed, "size_now": self.size})
        if "name" in changed:
            raise ZeroDivisionError
        return self.size < 10


async def changed(
    monkeypatch: pytest.MonkeyPatch, before: dict[str, str], *after: dict[str, str]
) -> list[link.Changed]:
    """Run an instance, give it settings one after another, and return what it said."""

    def build(plan: AppPlan, *_: object, **__: object) -> Parts:
        return Parts(services_of(plan), Database("postgresql://nowhere/db", plan.name))

    monkeypatch.setattr(instance, "build", build)
    monkeypatch.setattr(os, "kill", None)  # what it does when its line is gone
    seen.clear()
    spec = link.InstanceSpec(
        app="", role="Worker", slot=0, owner=1, broker="", database="", settings=before
    )
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003 - the only way to say it
    reader, writer = await asyncio.open_connection(sock=ours)
    app, config = App("a", roles=[Worker]), Config()
    plan = settled(app.plan(), config)
    shared = Common(app, plan, config, codec_of(plan))
    live = instance.live(spec, shared, theirs, (None, None))
    said: list[link.Changed] = []
    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as group:
        group.create_task(live)
        await _hear(reader, link.Ready)
        for settings in after:
            writer.write(link.encode(link.Change(settings)))
            said.append(await _hear(reader, link.Changed))
        writer.write(link.encode(link.Stop(0)))
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return said


async def _hear(reader: asyncio.StreamReader, kind: type[T]) -> T:
    while True:
        message = link.from_instance(await reader.readline())
        if isinstance(message, kind):
            return message


async def test_what_changed_is_set_and_told_and_may_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = await changed(monkeypatch, {"size": "2"}, {"size": "3"}, {"size": "3"}, {})

    assert [one.is_kept for one in said] == [True, True, True]
    # The same once more is no change; a setting that is gone is what the class says.
    assert seen == [{"size": 3, "size_now": 3}, {"size": 1, "size_now": 1}]


async def test_false_or_an_error_has_the_instance_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with capture_logs() as logs:
        said = await changed(monkeypatch, {}, {"size": "10"}, {"size": "10", "name": "x"})

    assert [one.is_kept for one in said] == [False, False]
    assert "on_change failed; a fresh instance takes over" in [log["event"] for log in logs]


async def test_what_cannot_be_used_is_refused_and_nothing_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = await changed(monkeypatch, {}, {"size": "big"}, {"sise": "3"}, {"size": "4"})

    assert "Worker.size is 'big'; expected: int" in said[0].problem
    assert "Worker has no setting 'sise'" in said[1].problem
    assert seen == [{"size": 4, "size_now": 4}]


async def test_another_concurrency_needs_a_fresh_instance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = await changed(monkeypatch, {}, {"concurrency": "5"}, {"concurrency": "0"})

    assert [one.is_kept for one in said] == [False, True]
    assert "Worker.concurrency is '0'; 1 to 65535 is expected." in said[1].problem
