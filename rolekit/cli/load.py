"""`load`: put an app under load, and say whether it stood it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from rolekit.cli.client import find
from rolekit.cli.console import FAILED, out_json, say
from rolekit.cli.ground import database_of
from rolekit.cli.load_screen import Screen, say_outcome
from rolekit.cli.options import (
    AppOption,
    ConfigOption,
    JsonOption,
    SetOption,
    WaitOption,
    settings,
)
from rolekit.config import nearest, redact
from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.supervisor.control_restart import RestartNews, RestartOrder

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator

    from rolekit.cli.client import Control
    from rolekit.config import Config
    from rolekit.load.capacity import Trial
    from rolekit.load.driver import Job
    from rolekit.load.result import Result
    from rolekit.load.scenario import Scenario
    from rolekit.load.tracing import KeptTraces
    from rolekit.supervisor.status import FleetStatus

_UNACCOUNTED = re.compile(r'^rolekit_unaccounted\{.*\brole="([^"]+)".*\} (-?\d+)$')
_EMBEDDED_RUNS = Path("postgres/data/postmaster.pid")


def load(  # noqa: PLR0913 - each is an option of the command
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="A TOML file.")],
    *,
    rate: Annotated[
        float, typer.Option("--rate", min=0, help="Instead of the scenario's, per second.")
    ] = 0,
    for_s: Annotated[
        float,
        typer.Option("--for", metavar="SECONDS", min=0, help="Instead of the scenario's."),
    ] = 0,
    url: Annotated[
        str, typer.Option("--url", help="Send there: scheme, host and port, or host:port.")
    ] = "",
    objectives: Annotated[
        list[str] | None,
        typer.Option(
            "--objective", metavar="NAME=BOUND", help="p99=250ms, errors=0.1%, rate=900."
        ),
    ] = None,
    capacity: Annotated[
        bool,
        typer.Option(
            "--find-capacity", help="Find the highest rate that meets the objectives."
        ),
    ] = False,
    report: Annotated[
        Path, typer.Option("--report", metavar="FOLDER", help="Where the report goes.")
    ] = Path("build/load"),
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    wait_s: WaitOption = 10,
    as_json: JsonOption = False,
) -> None:
    """Put an app under load at a rate of its own (an open loop), and judge how it stood it."""
    # Nobody else should wait for these.
    from rolekit.load.reading import read  # noqa: PLC0415
    from rolekit.load.scenario import changed  # noqa: PLC0415

    chosen = changed(
        read(scenario), rate=rate, for_s=for_s, url=url, objectives=objectives or ()
    )
    if not chosen.name:
        chosen = msgspec.structs.replace(chosen, name=scenario.stem)
    config = settings(app, sets, config_file)
    try:
        result, trials = asyncio.run(
            _run(config, chosen, tuple(sets or ()), wait_s, is_search=capacity)
        )
    except KeyboardInterrupt:
        say("Stopped; nothing was judged, and there is no report.")
        raise
    _tell(result, trials, report, as_json=as_json)
    if not result.is_passed:
        raise typer.Exit(FAILED)


async def _run(
    config: Config, scenario: Scenario, sets: tuple[str, ...], wait_s: float, *, is_search: bool
) -> tuple[Result, list[Trial]]:
    from rolekit import wiring  # noqa: PLC0415
    from rolekit.load.capacity import find_capacity  # noqa: PLC0415
    from rolekit.load.driver import Job, drive  # noqa: PLC0415
    from rolekit.load.own_broker import OwnBroker  # noqa: PLC0415

    watched = await asyncio.to_thread(_watched, config)
    if watched is None:
        say("No app of these settings runs on this host, so none is watched.")
    async with AsyncExitStack() as held:
        there = await held.enter_async_context(_database(config, scenario, watched, wait_s))
        traces: KeptTraces | None = None
        if watched is not None and there.database:
            opened = wiring.open_traces(there.database, watched.app)
            traces = await held.enter_async_context(opened)
        screen = Screen(scenario)
        job = Job(
            scenario=scenario,
            app=config.app or (watched.target if watched else ""),
            database=there.database,
            broker=there.broker,
            sets=sets,
            fleet=watched,
            traces=traces,
            own_broker=OwnBroker.of(),
            cut=partial(wiring.cut_sessions, there.database, watched.app, watched.roles)
            if watched is not None and traces is not None
            else None,
            servers=partial(wiring.server_versions, there.database, there.broker)
            if there.database
            else None,
            on_tick=screen.tick,
            on_mark=screen.mark,
            shown="embedded"
            if config.is_embedded
            else redact(config.database).partition("?")[0],
            shown_broker=redact(config.broker),
        )
        _check_chaos(job)
        screen.begin()
        try:
            if not is_search:
                return await drive(job), []
            return await find_capacity(
                scenario, lambda one: drive(replace(job, scenario=one)), screen.trial
            )
        finally:
            screen.end()


@asynccontextmanager
async def _database(
    config: Config, scenario: Scenario, watched: _Fleet | None, wait_s: float
) -> AsyncGenerator[Config]:
    """Have the database of the app at hand where an entry, a check or its traces need it."""
    from rolekit.load.scenario import Call, Direct  # noqa: PLC0415

    is_needed = isinstance(scenario.entry, Direct | Call) or bool(scenario.check)
    if is_needed or (watched is not None and watched.has_database(config)):
        async with database_of(config, wait_s) as there:
            yield there
    else:
        yield config


class _Fleet:
    """A running app, looked at and disturbed through its control socket."""

    def __init__(self, control: Control, first: FleetStatus, *, is_here: bool) -> None:
        self._control = control
        self._is_here = is_here
        self.app = first.app
        self.target = first.target
        self.roles = [role.role for role in first.roles]

    def has_database(self, config: Config) -> bool:
        """Whether these settings lead to its database: no other is started to look at it."""
        if not self._is_here:
            return False
        return not config.is_embedded or (config.home / _EMBEDDED_RUNS).exists()

    def status(self) -> FleetStatus:
        return self._control.status_again()

    def unaccounted(self) -> dict[str, int]:
        lines = self._control.metrics().splitlines()
        found = [_UNACCOUNTED.search(line) for line in lines]
        return {one[1]: int(one[2]) for one in found if one is not None}

    def kill(self, role: str, chance: random.Random) -> str:
        if not self._is_here:
            raise ConfigError("the app runs elsewhere, and signals do not go there.")
        found = [one for one in self.status().roles if one.role == role]
        alive = [place for one in found for place in one.places if place.pid is not None]
        if not alive:
            raise Unavailable(f"{role} has no instance now.")
        victim = chance.choice(alive)
        os.kill(victim.pid or 0, signal.SIGKILL)
        return victim.name

    def restart(self, role: str) -> None:
        order = RestartOrder(role="" if role == "*" else role)
        last = RestartNews()
        for news in self._control.follow("/restart", order, RestartNews):
            last = news
        if not last.is_done:
            raise RolekitError(last.line or "it was not done.")


def _watched(config: Config) -> _Fleet | None:
    try:
        control, status = find(config)
    except Unavailable:
        return None
    return _Fleet(control, status, is_here=not config.control_address)


def _check_chaos(job: Job) -> None:
    """Refuse chaos that names roles nobody has, before anything is sent."""
    for chaos in job.scenario.chaos:
        if chaos.needs_broker:
            if job.own_broker is None:
                raise ConfigError(
                    f"{chaos.text}: the broker is not this test's own, and others may use it.",
                    fix="Start the app on a private one, as `python -m examples.mailflow.load "
                    '--broker private` does; or give a command = ["…"] that disturbs it.',
                )
            continue
        if chaos.cut and job.cut is None:
            raise ConfigError(
                f"{chaos.text}: no database of an app that runs here is known.",
                fix="Start the app first, and name its home and database.",
            )
        name = chaos.kill or chaos.restart.removeprefix("*")
        if not name:
            continue
        if not isinstance(job.fleet, _Fleet):
            raise ConfigError(
                f"{chaos.text}: no app runs here that it could be done to.",
                fix="Start it first, or name its home: ROLEKIT_HOME.",
            )
        if name not in job.fleet.roles:
            raise ConfigError(
                f"{chaos.text}: the app has no role {name}.{nearest(name, job.fleet.roles)}"
            )


def _tell(result: Result, trials: list[Trial], folder: Path, *, as_json: bool) -> None:
    from rolekit.load.report import write  # noqa: PLC0415

    page, data = write(result, trials, folder)
    if as_json:
        out_json(_summary(result, page, data))
    else:
        say_outcome(result, trials, page)


def _summary(result: Result, page: Path, data: Path) -> dict[str, Any]:
    return {
        "name": result.name,
        "passed": result.is_passed,
        "reasons": result.reasons,
        "warnings": result.warnings,
        "due": result.due,
        "answered": result.answered,
        "failed": result.failed,
        "rate": result.rate,
        "percentiles_us": {str(share): value for share, value in result.percentiles},
        "objectives": result.objectives,
        "checked": result.checked,
        "page": str(page),
        "data": str(data),
    }
