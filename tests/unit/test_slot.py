"""A place in the fleet: which ends of an instance count as deaths."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from rolekit import link
from rolekit.model.restart import RestartPolicy
from rolekit.supervisor.forker import Birth
from rolekit.supervisor.instance import Patience
from rolekit.supervisor.journal import Journal
from rolekit.supervisor.reasons import Reasons
from rolekit.supervisor.slot import Crew, Slot
from rolekit.supervisor.wire import RoleSummary

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Sequence

    from rolekit.supervisor.host import QueueDepth

pytestmark = pytest.mark.anyio


class Forker:
    """Each process ended before anybody looked."""

    def __init__(self, status: int | None) -> None:
        self._status = status

    async def fork(
        self, spec: link.InstanceSpec, line: socket.socket, shared: Sequence[socket.socket]
    ) -> Birth:
        readable, writable = os.pipe()  # as a pidfd: readable once the process ended
        os.close(writable)
        status: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        status.set_result(self._status)
        return Birth(pid=1, pidfd=readable, status=status)


class Host:
    """Notes what it takes back; then the place is given up."""

    epoch = 7

    def __init__(self) -> None:
        self.slot: Slot
        self.released: list[tuple[int, bool]] = []

    async def release(self, owner: int, *, crashed: bool = True) -> None:
        self.released.append((owner, crashed))
        self.slot.leave(0)

    async def topics(self) -> AsyncIterator[list[str]]:
        yield []

    async def lease(self) -> AsyncIterator[bool]:
        yield True

    async def depths(self) -> dict[str, QueueDepth]:
        return {}


def spec(role: RoleSummary, number: int) -> link.InstanceSpec:
    return link.InstanceSpec(
        app="a:b", role=role.name, slot=number, owner=42, broker="", database="", settings={}
    )


@pytest.mark.parametrize(
    ("status", "crashed"),
    [
        pytest.param(0, False, id="told to stop"),
        pytest.param(2, False, id="refused to start"),
        pytest.param(link.ENDED, False, id="ended by itself"),
        pytest.param(1, True, id="an error that nobody caught"),
        pytest.param(-9, True, id="killed"),
        pytest.param(-11, True, id="a crash in C"),
        pytest.param(None, True, id="unknown"),
    ],
)
async def test_what_an_instance_held_is_suspected_only_if_it_died(
    status: int | None, *, crashed: bool
) -> None:
    host = Host()
    crew = Crew(
        forker=Forker(status),
        host=host,
        spec=spec,
        is_leased=lambda: True,
        hurry=asyncio.Event(),
        policy=RestartPolicy(),
        patience=Patience(),
        hear=Journal(print).read,
        tell=Reasons().add,
    )
    host.slot = slot = Slot(RoleSummary(name="Worker"), 0, crew)

    await slot.run()

    assert host.released == [(42, crashed)]
