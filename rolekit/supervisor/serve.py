"""A supervisor's whole life: import, lock, bind, databases, fleet, control; then backwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import ConfigError, RolekitError
from rolekit.model.restart import RestartPolicy
from rolekit.model.scaling import Damping
from rolekit.observe import logs
from rolekit.supervisor import control_server, linux, watching
from rolekit.supervisor.autoscale import Autoscaler
from rolekit.supervisor.fleet import Fleet
from rolekit.supervisor.forker import DEFAULT_TARGET, Forker
from rolekit.supervisor.host import Ground
from rolekit.supervisor.instance import Patience
from rolekit.supervisor.journal import SUPERVISOR, Journal
from rolekit.supervisor.launchers import Launchers
from rolekit.supervisor.lock import only_one
from rolekit.supervisor.notify import Systemd
from rolekit.supervisor.observing import Observing
from rolekit.supervisor.orders import Orders
from rolekit.supervisor.printer import Printer
from rolekit.supervisor.recycling import Recycling
from rolekit.supervisor.reload import Reload
from rolekit.supervisor.sockets import Doors
from rolekit.supervisor.status import FleetStatus, roles_of
from rolekit.supervisor.stops import Stops, handling, stop_signals
from rolekit.supervisor.upgrades import Restart, Upgrades, Wish
from rolekit.supervisor.usage import FleetUsage, used_by
from rolekit.supervisor.wire import Described, RoleSummary

if TYPE_CHECKING:
    from pathlib import Path

    from rolekit.config import Config
    from rolekit.supervisor.control_logs import LogLine, LogsOrder

_log = structlog.get_logger("rolekit.supervisor")

OpenGround = Callable[[Described], AbstractAsyncContextManager[Ground]]
"""Brings the databases up to date and opens the host's link to them."""
Reread = Callable[[], "Config"]
"""Reads the settings again, as they are now; raises a `ConfigError`."""
Say = Callable[[str], None]
"""Prints a line for whoever started this."""

_LOOK_S = 0.05  # how often the start looks whether everybody is ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How to supervise; the defaults are right for everything but tests.

    Attributes:
        target: "module:function" that runs an instance.
        damping: How eagerly roles scale by themselves.
        watched: The app is restarted when a source file below changes; None: it is not.
        roles: Which are run here; empty: all.
    """

    target: str = DEFAULT_TARGET
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    patience: Patience = field(default_factory=Patience)
    damping: Damping = field(default_factory=Damping)
    watched: Path | None = None
    roles: tuple[str, ...] = ()


async def serve(
    config: Config,
    open_ground: OpenGround,
    say: Say,
    manner: Manner | None = None,
    reread: Reread | None = None,
) -> int:
    """Run an app's fleet on this host until it is told to stop.

    Args:
        config: Settings.
        open_ground: Opens what it stands on.
        say: Speaks to whoever started it.
        manner: How to supervise.
        reread: Reads the settings again; None: they never change.

    Returns:
        0 after a stop that was asked for, 1 when a role refused to start.

    Raises:
        RolekitError: It could not start; the sentence says why.
    """
    linux.require()
    config.check_control()
    linux.raise_file_limit()
    manner = manner or Manner()
    if manner.watched is not None:
        watching.require()

    supervisor: _Supervisor | None = None

    def forker_of(app: str) -> Forker:
        now = config if supervisor is None else supervisor.config
        return Forker(
            app,
            target=manner.target,
            broker=now.broker,
            environ=now.environment(),
            roles=manner.roles,
            start_method=config.start_method if linux.is_here() else "spawn",
        )

    forker = forker_of(config.app)
    try:
        with stop_signals() as stops:
            async with stops.cutting() as cut:
                app = await forker.start()
            if cut.expired():
                return 0
            for warning in config.unknown_roles(app.names):
                say(f"warning: {warning}")
            if what := linux.without():
                say(what)
            elif config.start_method == "spawn":
                say("Instances are spawned, not forked: each imports the app itself.")
            upgrades = Upgrades(app.app, forker_of)
            upgrades.begin_with(config.app, app, forker)
            reread = reread or (lambda: config)
            supervisor = _Supervisor(config, app, say, manner, upgrades, reread)
            try:
                return await supervisor.run(open_ground, stops)
            finally:
                await upgrades.stop()
    finally:
        await forker.stop()


class _Supervisor:
    """One run, from the described app on."""

    def __init__(
        self,
        config: Config,
        app: Described,
        say: Say,
        manner: Manner,
        upgrades: Upgrades,
        reread: Reread,
    ) -> None:
        self._config = config
        self._app = app
        self._upgrades = upgrades
        self._say = say
        self._manner = manner
        self._settings = {role.name: config.for_role(role.name) for role in app.roles}
        self._doors = Doors()
        self._launchers = Launchers(app.app)
        self._fleet: Fleet | None = None
        self._reload: Reload | None = None
        self._reread = reread
        is_pretty = logs.is_pretty(config.log_format)
        self._printer = Printer(render=logs.prettier() if is_pretty else None)
        self._journal = Journal(self._printer)
        self._scaler: Autoscaler | None = None
        self._observing: Observing | None = None

    async def run(self, open_ground: OpenGround, stops: Stops) -> int:
        """Hold everything open, in the order in which it is needed, while the fleet runs."""
        with contextlib.ExitStack() as held:
            held.enter_context(only_one(self._config.home, self._app.app))
            held.callback(self._doors.close_all)
            for role in self._app.roles:
                self._doors.open(role, self._settings[role.name].get("bind", role.bind))
            async with contextlib.AsyncExitStack() as grounds:
                grounds.push_async_callback(self._launchers.stop)
                await self._launchers.open(self._app)
                async with stops.cutting() as cut:
                    ground = await grounds.enter_async_context(open_ground(self._app))
                if cut.expired():
                    return 0
                return await self._run_fleet(ground, stops)

    async def status(self) -> FleetStatus:
        """Describe the fleet."""
        fleet = self._running()
        depths = await fleet.depths()
        state = (
            "stopping" if fleet.is_stopping else "ready" if fleet.is_complete else "starting"
        )
        return FleetStatus(
            app=self._app.app,
            target=self._config.app,
            pid=os.getpid(),
            state=state,
            is_database_away=depths is None,
            roles=roles_of(fleet, depths, self._doors.addresses, self._scaling()),
        )

    async def usage(self) -> FleetUsage:
        """Describe the fleet, and what it uses."""
        return await asyncio.to_thread(used_by, await self.status())

    async def metrics(self) -> str:
        """Say all numbers, as Prometheus wants them."""
        self._running()
        assert self._observing is not None  # noqa: S101 - made before the fleet
        return await self._observing.text()

    def is_ready(self) -> bool:
        """Say whether every place is filled, none keeps dying, and nothing stops."""
        fleet = self._running()
        return fleet.is_complete and not fleet.is_crash_looping and not fleet.is_stopping

    def scale(self, role: str, change: str) -> int:
        """Change a role's number of instances."""
        return self._scaling().scale(role, change)

    def drain(self, role: str, *, undo: bool) -> int:
        """Drain a role, or take it up again."""
        return self._running().drain(role, undo=undo)

    def restart(self, wish: Wish) -> Restart:
        """Begin a rolling restart."""
        return self._upgrades.begin(wish)

    def logs(self, order: LogsOrder) -> AsyncIterator[LogLine]:
        """Give what was printed."""
        fleet = self._running()
        if order.role and order.role != SUPERVISOR:
            fleet.named(order.role)
        if order.instance:
            places = (*fleet.slots(order.role), *fleet.leaving(order.role))
            self._journal.look_for(order.instance, [one.name for one in places])
        return self._journal.tell(order)

    async def reload(self) -> list[str]:
        """Read the settings again and apply them."""
        if self._reload is None:
            raise ConfigError("The fleet is not there yet.", fix="Try again in a moment.")
        return await self._reload.run()

    def ask_to_stop(self, *, hard: bool) -> None:
        """Begin to stop."""
        self._running().ask_to_stop(hard=hard)

    def _running(self) -> Fleet:
        if self._fleet is None:
            raise ConfigError("The fleet is not there yet.", fix="Try again in a moment.")
        return self._fleet

    def _scaling(self) -> Autoscaler:
        self._running()
        assert self._scaler is not None  # noqa: S101 - made with the fleet
        return self._scaler

    def _settings_of(self, role: str) -> dict[str, str]:
        return self.config.for_role(role)

    @property
    def config(self) -> Config:
        """The settings as they were read last."""
        return self._config if self._reload is None else self._reload.config

    async def _run_fleet(self, ground: Ground, stops: Stops) -> int:
        ground = self._launchers.adopting(ground)
        observing = self._observing = Observing(self._config, self._app, ground, self.status)
        fleet = self._fleet = Fleet(
            Orders(
                settings=self._settings,
                sockets=self._doors.shared,
                doors=self._launchers.doors,
                grace_s=self._config.grace_s,
                policy=self._manner.policy,
                patience=self._manner.patience,
                hear=self._journal.read,
                spans=observing,
            ),
            ground,
            self._upgrades.latest,
        )
        scaler = self._scaler = Autoscaler(fleet, ground.measure, self._manner.damping)
        self._upgrades.attach(fleet, ground, self._doors, self._settings_of)
        recycling = Recycling(fleet)
        self._reload = Reload(fleet, recycling, self._config, self._reread)
        config = self._config
        answering = control_server.serve(
            config.control_path(self._app.app),
            self,
            address=config.control_address,
            token=config.control_token,
        )
        with self._printer.running(), logs.copied(self._journal.note):
            async with answering, asyncio.TaskGroup() as group:
                helpers = [
                    group.create_task(self._obey(fleet, stops)),
                    group.create_task(self._announce(fleet)),
                    group.create_task(scaler.run()),
                    group.create_task(Systemd(os.environ).follow(fleet)),
                    group.create_task(recycling.run()),
                    group.create_task(self._hang_up(stops)),
                    group.create_task(self._watch()),
                    group.create_task(observing.run(fleet.say_to_all)),
                ]
                await fleet.run()
                for helper in helpers:
                    helper.cancel()
                self._journal.close()
        await observing.close()
        self._say(f"{self._app.app} has stopped.")
        return 1 if fleet.refusals else 0

    async def _obey(self, fleet: Fleet, stops: Stops) -> None:
        while True:
            is_hard = await stops.next() > 1
            fleet.ask_to_stop(hard=is_hard)
            self._say(
                "Stopping hard: what is in hand is handed back."
                if is_hard
                else "Stopping: finishing what is in hand, "
                f"{self._config.grace_s:g} s at most. Ctrl-C again stops hard."
            )

    async def _watch(self) -> None:
        if self._manner.watched is not None:
            await watching.watch(self._manner.watched, self._upgrades, self._say)

    async def _hang_up(self, stops: Stops) -> None:
        """Read the settings again on SIGHUP; but when the terminal went away, stop."""
        hung_up = asyncio.Event()
        has_terminal = sys.stdin.isatty()
        with handling(signal.SIGHUP, stops.more if has_terminal else hung_up.set):
            while True:
                await hung_up.wait()
                hung_up.clear()
                try:
                    await self.reload()
                except RolekitError as error:
                    _log.error("the settings stay as they were", why=str(error))

    async def _announce(self, fleet: Fleet) -> None:
        """Say when all are ready; end the start if a role refuses."""
        while not fleet.is_complete:
            if refusals := fleet.refusals:
                for role, why in refusals:
                    self._say(f"{role} cannot start: {why}")
                fleet.ask_to_stop()
                return
            await asyncio.sleep(_LOOK_S)
        self._say(f"{self._app.app} is up. Ctrl-C stops it; `rolekit ps` shows it.")
        for one in self._app.roles:
            self._say(f"  {self._line(fleet, one)}")

    def _line(self, fleet: Fleet, role: RoleSummary) -> str:
        line = f"{role.name} x {len(fleet.slots(role.name))}"
        if address := self._doors.addresses.get(role.name):
            line += f"  {'http://' if role.is_web else ''}{address}"
        return line
