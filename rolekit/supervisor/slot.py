"""A place in the fleet: one instance after another, until the place is given up.

This is the only code that moves an instance from state to state (drawn in `__init__`), and
it does so from one task, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

import structlog

from rolekit import link
from rolekit.errors import RolekitError
from rolekit.model.restart import RestartPolicy, RestartState, after_death
from rolekit.supervisor.instance import Instance, Patience
from rolekit.supervisor.rounds import Rounds
from rolekit.supervisor.starts import Starts

if TYPE_CHECKING:
    from rolekit.model.sample import Sample
    from rolekit.model.span import Span
    from rolekit.supervisor.budget import Budgets
    from rolekit.supervisor.forker import Birth
    from rolekit.supervisor.host import HostLink
    from rolekit.supervisor.wire import RoleSummary

_log = structlog.get_logger("rolekit.supervisor")

Hear = Callable[[str, str, int], None]
State = Literal["starting", "ready", "stopping", "resting", "refused", "gone"]
LINE_BYTES = 1 << 20
"""What an instance says may wait in the kernel, where it outlives the instance. Where all is
traced some hundred KB come at once, and what it says is read ten times a second."""


class Observed(Protocol):
    """Collects what processes tell of themselves."""

    def take(self, source: str, span: Span) -> None:
        """Take a span of a process."""
        ...

    def measured(self, source: str, samples: Sequence[Sample]) -> None:
        """Take what a process counted since it began."""
        ...

    def lags(self, source: str, lag_s: float) -> None:
        """Take how late the loop of a process runs."""
        ...

    def restarted(self, role: str) -> None:
        """Count an instance that takes the place of one that ended."""
        ...

    def gone(self, source: str, how: str) -> None:
        """Note that a process ended; `how` is empty where it was in good order."""
        ...


class Forks(Protocol):
    """Starts processes."""

    async def fork(
        self, spec: link.InstanceSpec, line: socket.socket, shared: Sequence[socket.socket]
    ) -> Birth:
        """Start one; raises a `RolekitError` when it cannot."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """What the slots of a fleet share.

    Attributes:
        forker: Starts processes.
        host: Takes back what dead instances held.
        spec: Makes what an instance is told, from its role and slot; each call uses up an
            owner number.
        is_leased: Whether the host's lease is held now.
        hurry: Set: do not wait for what is in hand (hard stop).
        policy: How patiently one place is filled again,
        budgets: and all places of a role together.
        version: Of the app's code that `forker` runs.
        hear: Takes over the pipe into which an instance prints: role, instance, pipe.
        tell: Remembers what happened to a role, for people: role, sentence.
        starts: Lets so many start at a time.
        rounds: Reads what those say that are ready.
        spans: Collects what instances tell of themselves.
        proven: Version and role of instances that have been ready. One that refuses to start
            after that is tried again like one that died: what it lacks, an engine or a
            server, was there, and may come back.
    """

    forker: Forks
    host: HostLink
    spec: Callable[[RoleSummary, int], link.InstanceSpec]
    is_leased: Callable[[], bool]
    hurry: asyncio.Event
    policy: RestartPolicy
    budgets: Budgets
    patience: Patience
    hear: Hear
    tell: Callable[[str, str], None]
    version: int = 1
    starts: Starts = field(default_factory=Starts)
    rounds: Rounds = field(default_factory=Rounds)
    spans: Observed | None = None
    proven: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])


class Slot:
    """Keeps one instance of a role running."""

    def __init__(
        self,
        role: RoleSummary,
        number: int,
        crew: Crew,
        shared: Sequence[socket.socket] = (),
    ) -> None:
        self.role = role
        self.name = f"{role.name}/{number}"
        self.number = number
        self.instance: Instance | None = None
        self.restarts = 0
        self.refused = ""
        self._crew = crew
        self._budget = crew.budgets.of(role.name)
        self._shared = shared
        self._leaving = asyncio.Event()
        self._grace_s = 0.0
        self._is_last = False
        self._history = RestartState()
        self._is_resting = False
        self._is_gone = False

    @property
    def version(self) -> int:
        """Of the app's code that its instances run."""
        return self._crew.version

    @property
    def is_crash_looping(self) -> bool:
        """Whether its restart budget is spent, or with others that of its role."""
        if self._budget.holds(self):
            return True
        lived = self.instance
        has_recovered = (
            lived is not None
            and lived.ready_at is not None
            and time.monotonic() - lived.ready_at >= self._crew.policy.healthy_s
        )
        return self._history.is_crash_looping and not has_recovered

    @property
    def state(self) -> State:
        """Where it stands."""
        if self.refused:
            return "refused"
        if self._is_gone:
            return "gone"
        if self._leaving.is_set():
            return "stopping"
        if self._is_resting:
            return "resting"
        return "ready" if self.instance and self.instance.is_ready else "starting"

    def leave(self, grace_s: float, *, is_last: bool = True) -> None:
        """Give this place up: stop its instance softly and start no other.

        Args:
            grace_s: For what it has in hand.
            is_last: No other place of the role stays.
        """
        self._grace_s, self._is_last = grace_s, is_last
        self._leaving.set()

    async def run(self) -> None:
        """Keep the place filled; return when it was given up, or the role refuses to start."""
        self._is_gone = False
        try:
            while not self._leaving.is_set() and not self.refused:
                healthy_s = await self._one_life()
                if not self._leaving.is_set() and not self.refused:
                    await self._rest(healthy_s)
        finally:
            self._is_gone = True
            self._budget.left(self)

    async def _one_life(self) -> float:
        """Start an instance and stay with it; return how long it was healthy."""
        started = await self._crew.starts.turn()
        try:
            return 0 if self._leaving.is_set() else await self._live(started)
        finally:
            started()

    async def _live(self, started: Callable[[], None]) -> float:
        spec = self._crew.spec(self.role, self.number)
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LINE_BYTES)
        with theirs:
            try:
                birth = await self._crew.forker.fork(spec, theirs, self._shared)
            except (RolekitError, TimeoutError) as error:
                ours.close()
                _log.error("no instance was started", instance=self.name, error=str(error))
                return 0
        if birth.printed is not None:
            self._crew.hear(self.role.name, self.name, birth.printed)
        instance = self.instance = await Instance.open(
            self.name, birth, ours, self._crew.patience
        )
        instance.on_ready = partial(self._prove, instance, started)
        spans, source = self._crew.spans, f"{self.name} {spec.owner}"
        if spans is not None:
            instance.on_span = partial(spans.take, source)
            instance.on_samples = partial(spans.measured, source)
            instance.on_lag = partial(spans.lags, source)
        if not self._crew.is_leased():
            instance.say(link.Lease(held=False))
        try:
            status = await self._accompany(instance)
        finally:
            self.instance = None
        healthy_s = instance.lived_s
        self._account(instance, status)
        # One that went with its zygote says nothing about its role.
        if status is not None and not self._leaving.is_set() and not self.refused:
            self._budget.died(self, healthy_s)
        if spans is not None:
            spans.gone(source, "" if status in link.IN_ORDER else _ending(status))
        await self._release(spec.owner, status)
        return healthy_s

    def _prove(self, instance: Instance, started: Callable[[], None]) -> None:
        self._crew.proven.add((self.version, self.role.name))
        self._budget.was_ready(self)
        instance.read_in(self._crew.rounds)
        started()

    async def _accompany(self, instance: Instance) -> int | None:
        """Stay with an instance to its end, taking it down when the place is given up."""
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(instance.live())
            leaving = group.create_task(self._leaving.wait())
            await asyncio.wait((ended, leaving), return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if not ended.done():
                await self._take_down(instance, ended)
            return await ended

    async def _take_down(self, instance: Instance, ended: asyncio.Task[int | None]) -> None:
        """Soft, hard, kill: each with its deadline."""
        if not self._crew.hurry.is_set():
            instance.say(link.Stop(self._grace_s, self._is_last))
            hurry = asyncio.create_task(self._crew.hurry.wait())
            await asyncio.wait(
                (ended, hurry), timeout=self._grace_s, return_when=asyncio.FIRST_COMPLETED
            )
            hurry.cancel()
        if not ended.done():
            instance.send_signal(signal.SIGTERM)
            await asyncio.wait((ended,), timeout=self._crew.patience.term_s)
        if not ended.done():
            _log.warning("instance does not stop; killing it", instance=self.name)
            instance.send_signal(signal.SIGKILL)

    def _account(self, instance: Instance, status: int | None) -> None:
        """Say how an instance ended, and what happens next."""
        if instance.refused and (self.version, self.role.name) in self._crew.proven:
            why = f"{self.name} could not start: {instance.refused}"
            self._crew.tell(self.role.name, why)
            _log.error("could not start; tried again", instance=self.name, why=instance.refused)
        elif instance.refused:
            self.refused = instance.refused
            self._crew.tell(self.role.name, f"{self.name} refused to start: {self.refused}")
            _log.error("refused to start", instance=self.name, why=instance.refused)
        elif self._leaving.is_set():
            if instance.why:
                self._crew.tell(self.role.name, f"{self.name} stopped, but {instance.why}")
            _log.info("stopped", instance=self.name, how=_ending(status))
        else:
            how = f"{instance.why} ({_ending(status)})" if instance.why else _ending(status)
            self._crew.tell(self.role.name, f"{self.name} ended: {how}")
            _log.warning(
                "instance ended; what it held is handed back, and another starts",
                instance=self.name,
                how=how,
                was_ready=instance.ready_at is not None,
            )

    async def _release(self, owner: int, status: int | None) -> None:
        """Have what it held handed back, before any successor starts.

        A database that is away holds up a successor, which could do nothing without it, but
        a stop only for so long: the next supervisor's epoch hands back the rest.
        """
        crashed = not self._leaving.is_set() and status not in link.IN_ORDER
        release = asyncio.ensure_future(self._crew.host.release(owner, crashed=crashed))
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait((release, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not release.done():
                await asyncio.wait((release,), timeout=self._crew.patience.release_s)
            if not release.done():
                _log.warning(
                    "not handed back, the database is away or busy; the next start does it",
                    instance=self.name,
                )
            elif (error := release.exception()) is not None:
                _log.error("handing back failed", instance=self.name, error=str(error))
        finally:
            release.cancel()
            leaving.cancel()

    async def _rest(self, healthy_s: float) -> None:
        """Wait as the restart policy says, or until the place is given up."""
        was_crash_looping = self.is_crash_looping
        verdict = after_death(
            self._crew.policy,
            self._history,
            now_s=time.monotonic(),
            healthy_s=healthy_s,
            draw=random.random(),  # noqa: S311 - jitter
        )
        self._history = verdict.state
        self.restarts += 1
        if self._crew.spans is not None:
            self._crew.spans.restarted(self.role.name)
        if verdict.state.is_crash_looping and not was_crash_looping:
            self._crew.tell(self.role.name, f"{self.name} is crash-looping")
            _log.error(
                f"crash-looping: died {len(verdict.state.deaths)} times in "
                f"{self._crew.policy.within_s:g} s; tried again every "
                f"{self._crew.policy.longest_s:g} s. Its log lines above say why it dies",
                instance=self.name,
            )
        self._is_resting = True
        try:
            with contextlib.suppress(TimeoutError):  # rested
                async with asyncio.timeout(verdict.delay_s):
                    await self._leaving.wait()
            await self._budget.turn(self, self._leaving)
        finally:
            self._is_resting = False


def _ending(status: int | None) -> str:
    if status is None:
        return "unknown"
    if status < 0:
        return signal.Signals(-status).name
    return f"exit code {status}"
