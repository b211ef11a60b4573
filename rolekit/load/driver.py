"""Runs a scenario: starts the clients, hears what they tell, and does what the chaos says."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.load.client import Start
from rolekit.load.clients import clients_of, hear, say
from rolekit.load.entries import named, now
from rolekit.load.result import Checked, Mark, Ran, Recorder, Result, RoleSeen, Seen
from rolekit.load.traced import Telling
from rolekit.load.tracing import read
from rolekit.load.verdict import judge, left_over

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from rolekit.load.own_broker import OwnBroker
    from rolekit.load.scenario import Chaos, Scenario
    from rolekit.load.tracing import KeptTraces
    from rolekit.supervisor.status import FleetStatus

_AHEAD_S = 0.3
_LOOK_S = 1.0
_REFUSED_S = 3.0
_LAST_ANSWERS_S = 5.0
_NEWS_S = 10.0


class Watched(Protocol):
    """An app that can be looked at and disturbed while it is under load."""

    def status(self) -> FleetStatus:
        """Say how it is. Blocks."""
        ...

    def unaccounted(self) -> dict[str, int]:
        """Say by role what came, came to nothing and is not in hand. Blocks."""
        ...

    def kill(self, role: str, chance: random.Random) -> str:
        """Kill an instance; return its name. Blocks."""
        ...

    def restart(self, role: str) -> None:
        """Restart a role by turns, or all ("*"). Blocks until done."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be run, and against what.

    Attributes:
        fleet: None: it cannot be looked at.
        traces: Where the app keeps its traces; None: they are not read.
        own_broker: The broker, if the test may disturb it.
        cut: Ends the sessions of the app with its database; returns how many. None: it cannot.
        servers: Says which versions the servers are.
        on_tick: Called each second with what is known.
        on_mark: Called with what was done to the app.
    """

    scenario: Scenario
    app: str = ""
    database: str = ""
    broker: str = ""
    sets: tuple[str, ...] = ()
    fleet: Watched | None = None
    traces: KeptTraces | None = None
    own_broker: OwnBroker | None = None
    cut: Callable[[], Awaitable[int]] | None = None
    servers: Callable[[], Awaitable[Mapping[str, str]]] | None = None
    on_tick: Callable[[Recorder, float], None] = lambda _recorder, _at_s: None
    on_mark: Callable[[Mark], None] = lambda _mark: None
    shown: str = ""
    shown_broker: str = ""


class NobodyListens(Unavailable):
    """Every request was refused for a while: there is no app."""


@dataclass(slots=True)
class _Driver:
    job: Job
    run: str
    recorder: Recorder
    clients: list[asyncio.subprocess.Process]
    start: float = 0
    start_ns: int = 0
    stopped: str = ""
    chance: random.Random = field(default_factory=random.Random)

    def at_s(self) -> float:
        return now() - self.start

    async def go(self) -> None:
        """Let all run to its end, or stop when there is nobody to send to."""
        self.chance.seed(self.job.scenario.seed)
        await self._look()
        self.start = now() + _AHEAD_S
        self.start_ns = time.time_ns() + int(_AHEAD_S * 1e9)
        for client in self.clients:
            say(client, Start(at=self.start))
        async with asyncio.TaskGroup() as beside:
            others = [
                beside.create_task(self._watch()),
                beside.create_task(self._tick()),
                *(
                    beside.create_task(self._disturb(chaos))
                    for chaos in self.job.scenario.chaos
                ),
            ]
            await self._hear_all()
            for other in others:
                other.cancel()
        if not self.stopped:
            await self._settle()

    async def _hear_all(self) -> None:
        hearing = [
            asyncio.ensure_future(self._hear(number, client))
            for number, client in enumerate(self.clients)
        ]
        scenario = self.job.scenario
        patience_s = _AHEAD_S + scenario.for_s + scenario.timeout_s + _LAST_ANSWERS_S
        waiting = set(hearing)
        while waiting and self.at_s() < patience_s and not self.stopped:
            done, waiting = await asyncio.wait(waiting, timeout=0.2)
            for one in done:
                one.result()
            self._stop_if_refused()
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _hear(self, number: int, client: asyncio.subprocess.Process) -> None:
        while True:
            told = await hear(client)
            if told.problem:
                raise ConfigError(told.problem[0], fix=told.problem[1])
            self.recorder.take(number, told)
            if told.is_over:
                return

    def _stop_if_refused(self) -> None:
        seen = self.recorder
        latest = seen.seconds[-int(_REFUSED_S) :]
        is_dead = (
            len(latest) == int(_REFUSED_S)
            and seen.refused > 0
            and sum(second.answered for second in latest) == 0
            and sum(second.failed for second in latest) > 0
            and sum(seen.ends.values()) - seen.refused < seen.refused
        )
        if is_dead and not self.job.scenario.chaos:
            self.stopped = (
                f"Nobody listened any more: stopped after {self.at_s():.0f} s, with "
                f"{seen.refused:,} requests refused."
            )

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.job.on_tick(self.recorder, self.at_s())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self._look()

    async def _look(self) -> Seen | None:
        """Note how the app is; None: it was not asked, or did not answer."""
        if self.job.fleet is None:
            return None
        try:
            status = await asyncio.to_thread(self.job.fleet.status)
        except (RolekitError, OSError):
            return None  # it is being restarted, perhaps: what is missing is seen on the page
        roles = tuple(
            RoleSeen(
                role=role.role,
                running=role.running,
                waiting=role.waiting,
                in_hand=role.in_hand,
                oldest_s=role.oldest_s,
                dead=role.dead,
            )
            for role in status.roles
        )
        self.recorder.seen.append(
            Seen(at_s=max(self.at_s(), 0) if self.start else 0, roles=roles)
        )
        return self.recorder.seen[-1]

    async def _settle(self) -> None:
        """Wait until the app has nothing left to do."""
        give_up = now() + self.job.scenario.settle_s
        while await self._has_work() and now() < give_up:
            self.job.on_tick(self.recorder, self.at_s())
            await asyncio.sleep(_LOOK_S / 2)

    async def balance(self) -> dict[str, int]:
        """Say by role what is unaccounted for at rest; wait while that may be old news."""
        if self.job.fleet is None or await self._has_work():
            return {}
        give_up = now() + _NEWS_S
        while True:
            found = await asyncio.to_thread(self.job.fleet.unaccounted)
            found = {role: count for role, count in found.items() if count}
            if not found or now() > give_up:
                return found
            await asyncio.sleep(_LOOK_S / 2)

    async def _has_work(self) -> bool:
        if self.job.fleet is None:
            return False
        seen = await self._look()
        return seen is None or any("left" in line for line in left_over(self.recorder.seen))

    async def _disturb(self, chaos: Chaos) -> None:
        at_s = chaos.at_s
        while at_s < self.job.scenario.for_s:
            await asyncio.sleep(max(0, self.start + at_s - now()))
            await self._do(chaos)
            if not chaos.every_s:
                return
            at_s += chaos.every_s

    async def _do(self, chaos: Chaos) -> None:
        """Do it, and mark it, also where the run ends before it is over."""
        at_s, text, problem = self.at_s(), f"{chaos.text}, not over at the end", ""
        try:
            text, problem = await self._done(chaos)
        except (RolekitError, OSError) as error:
            text, problem = chaos.text, str(error)
        finally:
            mark = Mark(at_s=at_s, text=text, took_s=self.at_s() - at_s, problem=problem)
            self.recorder.marks.append(mark)
            self.job.on_mark(mark)

    async def _done(self, chaos: Chaos) -> tuple[str, str]:
        """Do it; return what it was, and why it could not be done."""
        text, fleet = chaos.text, self.job.fleet
        if chaos.command:
            return text, await _run(chaos.command)
        if chaos.needs_broker:
            return await self._disturb_broker(chaos)
        if chaos.cut:
            return await self._cut(text)
        if fleet is None:
            return text, "no app is watched."
        if chaos.kill:
            victim = await asyncio.to_thread(fleet.kill, chaos.kill, self.chance)
            return f"kill -9 {victim}", ""
        await asyncio.to_thread(fleet.restart, chaos.restart)
        return text, ""

    async def _cut(self, text: str) -> tuple[str, str]:
        if self.job.cut is None:
            return text, "no database of an app is watched."
        return f"{text}: {await self.job.cut()}", ""

    async def _disturb_broker(self, chaos: Chaos) -> tuple[str, str]:
        if self.job.own_broker is None:
            return chaos.text, "the broker is not the test's own."
        if chaos.cut:
            return f"{chaos.text}: {await self.job.own_broker.cut()}", ""
        await self.job.own_broker.restart()
        return chaos.text, ""


async def drive(job: Job) -> Result:
    """Run a scenario; return what was measured, judged.

    Raises:
        ConfigError: It cannot run.
        NobodyListens: Not a single request was answered.
    """
    scenario = job.scenario
    run = secrets.token_hex(4)
    started_at = dt.datetime.now(dt.UTC)
    async with clients_of(job, run) as clients:
        driver = _Driver(job, run, Recorder(scenario), clients)
        try:
            await driver.go()
        except* (ConfigError, Unavailable) as group:
            raise group.exceptions[0] from None
    recorder = driver.recorder
    if driver.stopped and not any(second.answered for second in recorder.seconds):
        raise NobodyListens(
            f"Not one request was answered: {next(iter(recorder.ends), 'nothing came back')}.",
            fix="Start the app, or correct where the scenario sends.",
        )
    result = await asyncio.to_thread(
        recorder.result, run, started_at, job.shown, job.shown_broker
    )
    if job.servers is not None:
        result.versions.update(await job.servers())
    if driver.stopped:
        result.reasons.append(driver.stopped)
    if not driver.stopped:
        result.unaccounted = await _balance(driver)
    if scenario.check and not driver.stopped:
        result.checked = await _check(job, run, recorder)
    if job.traces is not None:
        await _read_traces(job.traces, driver.start_ns, recorder, result)
    judge(result, recorder.total, scenario.wanted)
    return result


async def _balance(driver: _Driver) -> dict[str, int] | None:
    try:
        return await driver.balance()
    except (RolekitError, OSError):
        return None  # nobody answers: what was looked at before says enough


async def _read_traces(
    kept: KeptTraces, start_ns: int, recorder: Recorder, result: Result
) -> None:
    """Add what the app's traces say; a database that is away now is no reason to fail."""
    telling = Telling(
        start_ns=start_ns,
        for_s=recorder.scenario.for_s,
        warm_up_s=recorder.scenario.warm_up_s,
        messages=frozenset(recorder.ids.values()),
        started=frozenset(recorder.traces),
        now_ns=time.time_ns(),
    )
    slowest = [(one.id, one.trace) for one in result.slowest]
    try:
        result.traced = await read(kept, telling, slowest)
    except (RolekitError, OSError) as error:
        result.warnings.append(f"Its traces could not be read: {error}")


async def _check(job: Job, run: str, recorder: Recorder) -> Checked:
    ran = Ran(
        run=run,
        requests=recorder.requests,
        ids=recorder.ids,
        app=job.app,
        database=job.database,
        broker=job.broker,
        scenario=job.scenario,
    )
    found: object = await named(job.scenario.check)(ran)
    if not isinstance(found, Checked):
        raise ConfigError(
            f"{job.scenario.check} returned {type(found).__name__}.",
            fix="A check returns rolekit.load.Checked.",
        )
    return found


async def _run(command: Sequence[str]) -> str:
    """Run a command; return why it failed, or nothing."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate()
    if process.returncode == 0:
        return ""
    return (
        f"it ended with {process.returncode}: {stderr.decode(errors='replace')[-200:].strip()}"
    )
