"""A place in the fleet: which ends of an instance count as deaths."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import pytest

from rolekit import link
from rolekit.model.restart import RestartPolicy
from rolekit.supervisor.budget import Budgets, RoleBudget
from rolekit.supervisor.forker import Birth
from rolekit.supervisor.instance import Patience
from rolekit.supervisor.journal import Journal
from rolekit.supervisor.reasons import Reasons
from rolekit.supervisor.slot import Crew, Slot
from rolekit.supervisor.wire import RoleSummary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rolekit.model.sample import Sample
    from rolekit.model.span import Span
    from rolekit.supervisor.host import QueueDepth

pytestmark = pytest.mark.anyio


class Forker:
    """Each process ended before anybody looked."""

    def __init__(self, status: int | None, said: bytes = b"") -> None:
        self._status = status
        self._said = said
        self.room_bytes = 0

    async def fork(
        self, spec: link.InstanceSpec, line: socket.socket, shared: Sequence[socket.socket]
    ) -> Birth:
        line.setblocking(False)  # noqa: FBT003 - the only way to say it
        line.send(self._said)
        self.room_bytes = room_bytes(line)
        readable, writable = os.pipe()  # as a pidfd: readable once the process ended
        os.close(writable)
        status: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        status.set_result(self._status)
        return Birth(pid=1, pidfd=readable, status=status)


def room_bytes(line: socket.socket) -> int:
    """How much may be written that nobody has read."""
    return line.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


class Heard:
    """Notes what an instance says of itself."""

    def __init__(self) -> None:
        self.lags_s: list[tuple[str, float]] = []
        self.restarts: list[str] = []

    def take(self, source: str, span: Span) -> None:
        pass

    def measured(self, source: str, samples: Sequence[Sample]) -> None:
        pass

    def lags(self, source: str, lag_s: float) -> None:
        self.lags_s.append((source, lag_s))

    def restarted(self, role: str) -> None:
        self.restarts.append(role)

    def gone(self, source: str, how: str) -> None:
        pass


class Host:
    """Notes what it takes back; then, after so many lives, the place is given up."""

    epoch = 7

    def __init__(self, *, lives: int = 1) -> None:
        self.slot: Slot
        self._lives = lives
        self.released: list[tuple[int, bool]] = []

    async def release(self, owner: int, *, crashed: bool = True) -> None:
        self.released.append((owner, crashed))
        if len(self.released) == self._lives:
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


def crew(forker: Forker, host: Host, heard: Heard | None = None) -> Crew:
    policy = RestartPolicy(first_s=0.001, longest_s=0.001)
    return Crew(
        forker=forker,
        host=host,
        spec=spec,
        is_leased=lambda: True,
        hurry=asyncio.Event(),
        policy=policy,
        budgets=Budgets(policy, Reasons().add),
        patience=Patience(),
        hear=Journal(print).read,
        tell=Reasons().add,
        spans=heard,
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
    host.slot = slot = Slot(RoleSummary(name="Worker"), 0, crew(Forker(status), host))

    await slot.run()

    assert host.released == [(42, crashed)]


class Slow(Host):
    """A database that takes its time to take back."""

    async def release(self, owner: int, *, crashed: bool = True) -> None:
        await asyncio.sleep(0.2)
        await super().release(owner, crashed=crashed)


@pytest.mark.parametrize(("status", "deaths"), [(-9, 3), (1, 3), (None, 0)])
async def test_deaths_count_for_the_role_but_not_with_the_zygote(
    status: int | None, deaths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[float] = []

    def count(_: RoleBudget, place: object, healthy_s: float) -> None:
        assert isinstance(place, Slot)
        counted.append(healthy_s)

    monkeypatch.setattr(RoleBudget, "died", count)
    host = Slow(lives=3)
    forker = Forker(status, said=link.encode(link.Ready()))
    host.slot = slot = Slot(RoleSummary(name="Worker"), 0, crew(forker, host))

    await slot.run()

    assert len(counted) == deaths
    assert all(0 < healthy_s < 0.2 for healthy_s in counted), "it died before it was released"


async def test_it_tells_how_late_loops_run_and_each_restart() -> None:
    host, heard = Host(lives=3), Heard()
    forker = Forker(-9, said=link.encode(link.Beat(lag_ms=250)))
    host.slot = slot = Slot(RoleSummary(name="Worker"), 0, crew(forker, host, heard))

    await slot.run()

    assert heard.lags_s == [("Worker/0 42", 0.25)] * 3
    assert heard.restarts == ["Worker"] * 2
    assert slot.restarts == 2


async def test_more_of_what_an_instance_says_outlives_it_than_usually() -> None:
    forker, host = Forker(0), Host()
    plain, other = socket.socketpair()
    with plain, other:
        usual_bytes = room_bytes(plain)
    host.slot = slot = Slot(RoleSummary(name="Worker"), 0, crew(forker, host))

    await slot.run()

    assert forker.room_bytes > usual_bytes
