"""How a process of an instance ends: the status tells its supervisor whether it crashed."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from rolekit import App, Client, Message, WorkerRole, handle, link
from rolekit.config import Config
from rolekit.database import Database
from rolekit.errors import ConfigError
from rolekit.wiring import instance
from rolekit.wiring.parts import Parts, codec_of, settled
from rolekit.wiring.warming import Common
from tests.unit.fakes_flow import SOON_S, services_of

if TYPE_CHECKING:
    from rolekit.model.plan import AppPlan


class Job(Message):
    """Never sent."""


class _Worker(WorkerRole):
    @handle
    async def work(self, job: Job) -> None:
        """Never called."""


class Told(_Worker):
    """Lives until it is told to stop."""


class Brief(_Worker):
    """Returns from its own loop."""

    async def run(self, client: Client) -> None:
        """Nothing to do."""


class Failing(_Worker):
    """Its own loop raises."""

    async def run(self, client: Client) -> None:
        raise ZeroDivisionError


class Waiting(_Worker):
    """Waits in on_start for what does not come."""

    async def on_start(self) -> None:
        await asyncio.Event().wait()


class Refusing(_Worker):
    """Cannot start with these settings."""

    async def on_start(self) -> None:
        raise ConfigError("No domain is set.")


@pytest.mark.parametrize(
    ("role", "status"),
    [(Told, 0), (Waiting, 0), (Refusing, 2), (Brief, link.ENDED), (Failing, link.ENDED)],
)
def test_an_instance_that_ends_in_good_order_says_so_by_its_status(
    role: type[WorkerRole], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[AppPlan] = []

    def build(plan: AppPlan, *_: object, **__: object) -> Parts:
        plans.append(plan)
        return Parts(services_of(plan), Database("postgresql://nowhere/db", plan.name))

    async def live() -> int:
        ours, theirs = socket.socketpair()
        with ours:
            if role in (Told, Waiting):
                ours.send(link.encode(link.Stop(0)))
            async with asyncio.timeout(SOON_S):
                none = (None, None)
                return await instance.live(spec, shared, theirs, none)

    app, settings = App("ends", roles=[role]), Config(horizon_s=5)
    plan = settled(app.plan(), settings)
    shared = Common(app, plan, settings, codec_of(plan))
    spec = link.InstanceSpec(
        app="", role=role.__name__, slot=0, owner=1, broker="", database="", settings={}
    )
    monkeypatch.setattr(instance, "build", build)
    monkeypatch.setattr(os, "kill", None)  # what it does when its line is gone

    with capture_logs():  # the console would look for the source of a traceback
        ended = asyncio.run(live())

    assert ended == status
    assert [plan.horizon_s for plan in plans] == [5]  # settings win over the code
    assert ended in link.IN_ORDER
