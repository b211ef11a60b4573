"""What the control API says, asked once a second for all pages that look, and encoded once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from rolekit.dashboard.joined import PIDS, JoinedStatus
from rolekit.errors import RolekitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.supervisor.status import FleetStatus, RoleStatus
    from rolekit.supervisor.usage import FleetUsage

EVERY_S = 1.0
_USAGE_EVERY_S, _USAGE_SOON_S, _USAGE_MOST_S = 2.0, 5.0, 120.0
_USAGE_SHARE = 0.01
"""What processes use is read one by one, 0.2 to 1 ms each: for so much of a core."""

_GONE = (OSError, RolekitError)


class Asked(Protocol):
    """What is asked how an app is."""

    def status(self) -> FleetStatus:
        """Say how it is. Blocks."""
        ...

    def usage(self) -> FleetUsage:
        """Say how it is, and what it uses. Blocks."""
        ...


class RoleNow(msgspec.Struct, frozen=True, kw_only=True):
    """A role, as a page shows it.

    Attributes:
        cpu: Cores that its instances use together; None: not known yet.
        memory_bytes: That they have for themselves.
        restarts: How often its places were filled again.
    """

    role: str
    state: str
    running: int
    ready: int
    instances: int
    in_hand: int
    waiting: int | None
    oldest_s: float | None
    rate: float
    dead: int | None
    restarts: int
    cpu: float | None
    memory_bytes: int
    address: str
    said: tuple[str, ...]


class AppNow(msgspec.Struct, frozen=True, kw_only=True):
    """An app, as a page shows it.

    Attributes:
        at: Seconds since 1970.
        problem: Why nothing is known of it now; empty: it is.
        missing: Supervisors of it that do not answer, where there are several.
    """

    at: float
    app: str = ""
    target: str = ""
    state: str = ""
    is_database_away: bool = False
    supervisor_cpu: float | None = None
    supervisor_bytes: int = 0
    roles: tuple[RoleNow, ...] = ()
    problem: str = ""
    missing: tuple[str, ...] = ()


class PlaceNow(msgspec.Struct, frozen=True, kw_only=True):
    """An instance, as a page shows it."""

    name: str
    state: str
    pid: int | None
    restarts: int
    in_hand: int
    rate: float
    lag_ms: float
    version: int
    cpu: float | None
    memory_bytes: int


class Feed:
    """Asks while somebody listens.

    Args:
        asked: The control API.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._listening = 0
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self._status: FleetStatus | None = None
        self._usage: FleetUsage | None = None
        self._spent: dict[int, float] = {}
        self._encoded = b""
        self._number = 0

    async def listen(self) -> AsyncGenerator[bytes]:
        """Give what is known, again and again, as JSON."""
        async with self._being_heard():
            seen = self._number  # what is older than this page is not worth showing
            while True:
                async with self._news:
                    while self._number == seen:
                        await self._news.wait()
                    seen, encoded = self._number, self._encoded
                yield encoded

    def places(self, role: str) -> tuple[PlaceNow, ...]:
        """Return the instances of a role, as they were when last asked."""
        if self._status is None:
            return ()
        memory = self._memory()
        return tuple(
            PlaceNow(
                name=place.name,
                state=place.state,
                pid=None if place.pid is None else place.pid % PIDS,
                restarts=place.restarts,
                in_hand=place.in_hand,
                rate=place.rate,
                lag_ms=place.lag_ms,
                version=place.version,
                cpu=self._spent.get(place.pid or 0),
                memory_bytes=memory.get(place.pid or 0, 0),
            )
            for one in self._status.roles
            if one.role == role
            for place in one.places
        )

    @contextlib.asynccontextmanager
    async def _being_heard(self) -> AsyncGenerator[None]:
        self._listening += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask_while_heard())
        try:
            yield
        finally:
            self._listening -= 1

    async def _ask_while_heard(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            measuring = tasks.create_task(self._measure())
            while self._listening:
                now = await self._ask()
                async with self._news:
                    self._encoded = msgspec.json.encode(now)
                    self._number += 1
                    self._news.notify_all()
                await asyncio.sleep(EVERY_S)
            measuring.cancel()

    async def _ask(self) -> AppNow:
        try:
            self._status = status = await asyncio.to_thread(self._asked.status)
        except _GONE as error:
            return AppNow(at=time.time(), problem=str(error))
        memory = self._memory()
        mine = self._usage.supervisor if self._usage else None
        return AppNow(
            at=time.time(),
            app=status.app,
            target=status.target,
            state=status.state,
            is_database_away=status.is_database_away,
            supervisor_cpu=self._spent.get(status.pid),
            supervisor_bytes=mine.memory_bytes if mine else 0,
            roles=tuple(self._role(role, memory) for role in status.roles),
            missing=status.missing if isinstance(status, JoinedStatus) else (),
        )

    async def _measure(self) -> None:
        """Ask what the processes use, now and then; pages do not wait for it."""
        while True:
            before, begun_s = self._usage, time.monotonic()
            with contextlib.suppress(*_GONE):  # which is said of the status
                usage = await asyncio.to_thread(self._asked.usage)
                self._usage, self._spent = usage, _cores(before, usage)
            took_s = time.monotonic() - begun_s
            await asyncio.sleep(pause_s(took_s, is_first=before is None))

    def _memory(self) -> dict[int, int]:
        return {
            one.pid: one.memory_bytes for one in (self._usage.processes if self._usage else ())
        }

    def _role(self, role: RoleStatus, memory: dict[int, int]) -> RoleNow:
        pids = [place.pid for place in role.places if place.pid is not None]
        known = [self._spent[pid] for pid in pids if pid in self._spent]
        return RoleNow(
            role=role.role,
            state=role.state,
            running=role.running,
            ready=role.ready,
            instances=role.instances,
            in_hand=role.in_hand,
            waiting=role.waiting,
            oldest_s=role.oldest_s,
            rate=role.rate,
            dead=role.dead,
            restarts=sum(place.restarts for place in role.places),
            cpu=sum(known) if known or not pids else None,
            memory_bytes=sum(memory.get(pid, 0) for pid in pids),
            address=role.address,
            said=tuple(filter(None, (role.why, role.scaling, *role.notes)))
            + tuple(reason.what for reason in role.reasons[-3:]),
        )


def pause_s(took_s: float, *, is_first: bool) -> float:
    """Say when to ask again what processes use.

    Args:
        took_s: The last answer, most of which is the supervisor's work.
        is_first: Soon again: what they use is a difference.
    """
    if is_first:
        return _USAGE_SOON_S
    return min(max(_USAGE_EVERY_S, took_s / _USAGE_SHARE), _USAGE_MOST_S)


def _cores(before: FleetUsage | None, now: FleetUsage) -> dict[int, float]:
    """Return how many cores each process used since it was last asked, by its id."""
    if before is None or now.at_s <= before.at_s:
        return {}
    everyone = [*now.processes, *([now.supervisor] if now.supervisor else [])]
    earlier = {one.pid: one.cpu_s for one in before.processes}
    if before.supervisor:
        earlier[before.supervisor.pid] = before.supervisor.cpu_s
    span_s = now.at_s - before.at_s
    return {
        one.pid: max(0.0, one.cpu_s - earlier[one.pid]) / span_s
        for one in everyone
        if one.pid in earlier
    }
