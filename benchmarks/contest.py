"""Runs contenders in turn: each run a process of its own, on a place of its own.

A round runs every contender once, and each round begins with another one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from benchmarks import meter
from benchmarks.figures import Bar, Run
from benchmarks.meter import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.servers.ground import Place, Servers

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "bench"
C_CLIENT = BUILD / "c_client"
PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
OWN = "own"
C = "c"
END_S = 10
TAIL = 300

Transport = Literal["rabbitmq", "postgres"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Who does what in a scenario.

    Attributes:
        name: As it is shown.
        program: `own`, `c`, or the name of a module in `benchmarks.peers`.
        case: What it does.
        count: Messages in a full run: enough for a second or two.
        quick: Messages in a smoke run.
        transport: Of rolekit; None: the one the run was started with.
        needs: `redis`, where it needs one.
        module: Which module of `benchmarks.own` does the job.
        once: In the first round only: worth knowing, and no bar is about it.
    """

    name: str
    program: str
    case: str
    count: int
    quick: int = 200
    window: int = 200
    queue_type: str = "quorum"
    rate: float = 0
    transport: Transport | None = None
    needs: tuple[str, ...] = ()
    module: str = "run"
    once: bool = False
    options: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A contest.

    Attributes:
        name: As it is asked for.
        title: What is measured, in a line.
        contenders: All of them.
        bars: What must be reached.
        rounds: In a full run, unless it is said otherwise.
        budget_s: No round begins that would end after this many seconds.
        run_s: A run that takes longer is ended.
    """

    name: str
    title: str
    contenders: tuple[Contender, ...]
    bars: tuple[Bar, ...]
    rounds: int = 5
    budget_s: float = 120
    run_s: float = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a contest is held.

    Attributes:
        rounds: None: as each scenario says.
        quick: Tiny sizes and one round: only to see that everything runs.
        transport: Of rolekit's contenders.
        profile: Folder for CPU profiles of rolekit's contenders; None: no profiles.
    """

    rounds: int | None = None
    quick: bool = False
    transport: Transport = "rabbitmq"
    profile: Path | None = None

    def rounds_of(self, scenario: Scenario) -> int:
        """Return how many rounds a scenario takes."""
        return 1 if self.quick else self.rounds or scenario.rounds


def missing(contender: Contender, servers: Servers, settings: Settings) -> str:
    """Say why this machine cannot run a contender; empty when it can."""
    uses_broker = contender.program != OWN or _transport(contender, settings) == "rabbitmq"
    if uses_broker and servers.node is None:
        return "rabbitmq-server is not installed"
    if "redis" in contender.needs and not servers.redis:
        return "redis-server is not installed"
    if contender.program == C and not C_CLIENT.exists():
        return "gcc or the headers of librabbitmq are not installed"
    if contender.program not in {OWN, C} and not PEERS_PYTHON.exists():
        return "the peers are not installed: make bench does that"
    return ""


async def hold(
    scenario: Scenario,
    runnable: Sequence[Contender],
    servers: Servers,
    settings: Settings,
    say: Callable[[str], None],
) -> list[dict[str, Run]]:
    """Run the rounds of a scenario; return what each contender did in each."""
    loop = asyncio.get_running_loop()
    until = loop.time() + scenario.budget_s
    rounds: list[dict[str, Run]] = []
    wanted, took_s = settings.rounds_of(scenario), 0.0
    for number in range(wanted):
        began = loop.time()
        if began + took_s > until:
            say(f"{scenario.name}: {number} of {wanted} rounds, then its time was over")
            break
        these = [one for one in runnable if not (number and one.once)]
        turn = number % max(1, len(these))
        found: dict[str, Run] = {}
        for contender in (*these[turn:], *these[:turn]):
            run = await run_once(contender, servers, settings, scenario)
            found[contender.name] = run
            say(_line(scenario, number, contender, run))
        rounds.append(found)
        took_s = loop.time() - began
    return rounds


async def run_once(
    contender: Contender, servers: Servers, settings: Settings, scenario: Scenario
) -> Run:
    """Run a contender once, in a fresh process."""
    async with servers.place() as place:
        job = _job(contender, place, settings)
        environment = {**os.environ, meter.JOB: job.encode()}
        if settings.profile is not None and contender.program == OWN:
            name = f"{scenario.name}-{contender.name}".replace(" ", "-").replace(",", "")
            environment["BENCH_PROFILE"] = str(settings.profile / f"profile-{name}.txt")
        process = await asyncio.create_subprocess_exec(
            *_command(contender, job),
            cwd=ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(scenario.run_s):
                out, err = await process.communicate()
        except TimeoutError:
            return Run(error=f"did not end within {scenario.run_s:g} s")
        finally:
            await _end_all(process)
    return _read(out.decode(), err.decode(errors="replace"), process.returncode)


async def _end_all(process: asyncio.subprocess.Process) -> None:
    """End a contender that has not ended, with the processes it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.communicate()


def _job(contender: Contender, place: Place, settings: Settings) -> Job:
    is_own = contender.program == OWN
    by_postgres = is_own and _transport(contender, settings) == "postgres"
    return Job(
        case=contender.case,
        count=contender.quick if settings.quick else contender.count,
        broker="" if by_postgres else place.broker,
        database=place.database,
        redis=place.redis,
        queue_type=contender.queue_type,
        window=contender.window,
        rate=contender.rate,
        servers=place.servers,
        options={**contender.options, "quick": settings.quick},
    )


def _transport(contender: Contender, settings: Settings) -> Transport:
    return contender.transport or settings.transport


def _command(contender: Contender, job: Job) -> list[str]:
    if contender.program == OWN:
        return [sys.executable, "-m", f"benchmarks.own.{contender.module}"]
    if contender.program == C:
        url = urlsplit(job.broker)
        vhost = url.path.removeprefix("/")
        where = [str(url.hostname), str(url.port), vhost, "c.first", job.queue_type]
        return [str(C_CLIENT), job.case, *where, str(job.count), str(job.window)]
    return [str(PEERS_PYTHON), "-m", f"benchmarks.peers.{contender.program}"]


def _read(out: str, err: str, code: int | None) -> Run:
    lines = out.strip().splitlines()
    if code or not lines:
        said = " ".join(err.split())[-TAIL:]
        return Run(error=f"exit code {code}: {said}")
    return Run(**json.loads(lines[-1]))


def _line(scenario: Scenario, number: int, contender: Contender, run: Run) -> str:
    head = f"{scenario.name} {number + 1} {contender.name:34}"
    if run.error:
        return f"{head} FAILED {run.error}"
    details = {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in run.details.items()
    }
    return f"{head} {run.metric('rate'):9,.0f}/s {run.metric('cpu_us'):7.0f} us CPU {details}"
