"""Restarts of a running fleet: which version it runs, and how it gets from one to another.

Each restart imports the app anew, in a zygote of its own, so it runs the code as it lies on
disk now. Nothing is touched before that zygote has said what the app is made of. A zygote is
ended when no place runs its version any more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from rolekit.config import nearest
from rolekit.errors import ConfigError, RolekitError
from rolekit.supervisor.rolling import Pace, Roll, in_order
from rolekit.supervisor.sockets import Doors
from rolekit.supervisor.version import version_of
from rolekit.supervisor.wire import RELAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rolekit.supervisor.fleet import Fleet
    from rolekit.supervisor.forker import Forker
    from rolekit.supervisor.host import Ground
    from rolekit.supervisor.version import Version
    from rolekit.supervisor.wire import Described, RoleSummary

_log = structlog.get_logger("rolekit.supervisor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What should be restarted, and how.

    Attributes:
        role: Only this one; empty: all.
        to: "module:attribute" of the app; empty: the one that runs, imported anew.
    """

    role: str = ""
    to: str = ""
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a restart ended.

    Attributes:
        is_done: All runs the new version.
        problem: Why not, if it never began.
    """

    is_done: bool = False
    problem: RolekitError | None = None


class Restart:
    """One restart that is under way, to be watched by whoever asked for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.outcome: Outcome | None = None
        self._news = asyncio.Event()

    def say(self, line: str) -> None:
        """Note what was done."""
        _log.info(line)
        self.lines.append(line)
        self._tell()

    def end(self, outcome: Outcome) -> None:
        """Note how it ended."""
        self.outcome = outcome
        self._tell()

    async def more(self, told: int) -> None:
        """Wait until there are more lines than these, or it has ended."""
        if self.outcome is None and len(self.lines) <= told:
            await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Upgrades:
    """Takes a fleet from version to version.

    Args:
        app: Name of the app; another app is another fleet.
        forker: Makes what forks instances of "module:attribute".
    """

    def __init__(self, app: str, forker: Callable[[str], Forker]) -> None:
        self._app = app
        self._forker = forker
        self._versions: list[Version] = []
        self._count = 0
        self._target = ""
        self._fleet: Fleet | None = None
        self._ground: Ground | None = None
        self._doors = Doors()
        self._settings_of: Callable[[str], dict[str, str]] = lambda _role: {}
        self._current: Restart | None = None

    def begin_with(self, target: str, app: Described, forker: Forker) -> None:
        """Take note of what the supervisor started with."""
        self._target = target
        self._note(target, app, forker)

    @property
    def latest(self) -> Version:
        """The version that was imported last."""
        return self._versions[-1]

    def attach(
        self,
        fleet: Fleet,
        ground: Ground,
        doors: Doors,
        settings_of: Callable[[str], dict[str, str]],
    ) -> None:
        """Take note of the fleet, once it is there.

        Args:
            fleet: Whose versions these are.
            ground: What it stands on.
            doors: Its sockets.
            settings_of: Says the settings of a role that it did not have until now.
        """
        self._fleet, self._ground = fleet, ground
        self._doors, self._settings_of = doors, settings_of

    def begin(self, wish: Wish) -> Restart:
        """Begin a restart.

        Raises:
            ConfigError: There is no such role, the fleet stops, or one is under way.
        """
        fleet = self._running()
        if fleet.is_stopping:
            raise ConfigError(
                "The fleet is stopping; it takes no changes.", fix="Start it again."
            )
        if wish.role and not wish.to:
            fleet.known(wish.role)
        if self._current is not None:
            done = "; ".join(f"{role}: {note}" for role, note in fleet.notes.items())
            raise ConfigError(
                f"A restart is under way already{f' ({done})' if done else ''}.",
                fix="Wait for its end; `rolekit ps` shows how far it is.",
            )
        restart = self._current = Restart()
        fleet.own(self._run(wish, restart))
        return restart

    async def stop(self) -> None:
        """End all zygotes."""
        for version in self._versions:
            await version.forker.stop()

    async def _run(self, wish: Wish, restart: Restart) -> None:
        outcome = Outcome(
            problem=RolekitError("The fleet stopped meanwhile.", fix="Start it again.")
        )
        try:
            outcome = await self._restart(wish, restart)
        except RolekitError as problem:
            _log.error("nothing was restarted", why=str(problem))
            outcome = Outcome(problem=problem)
        except Exception as error:  # noqa: BLE001 - the edge of one restart: the fleet goes on
            _log.exception("rolekit failed to restart")
            outcome = Outcome(problem=RolekitError(f"rolekit failed: {error!r}."))
        finally:
            self._current = None
            restart.end(outcome)
        await self._retire()

    async def _restart(self, wish: Wish, restart: Restart) -> Outcome:
        fleet = self._running()
        target = wish.to or (fleet.version(wish.role).target if wish.role else self._target)
        restart.say(f"Importing {target}.")
        version, app = await self._load(target, gives_way=wish.pace.apart_s > 0)
        names = [wish.role] if wish.role else list(version.roles)
        new = [name for name in names if name not in fleet.roles]
        try:
            self._check(wish, version, app)
            assert self._ground is not None  # noqa: S101 - there with the fleet
            await self._ground.adopt(app)
            for name in new:
                self._prepare(version.roles[name])
        except BaseException:
            self._close(new)
            await self._forget(version)
            raise
        roll = Roll(fleet, version, in_order(version, names), wish.pace, restart.say)
        if not await roll.run():
            self._close(new)
            return Outcome()
        if not wish.role:
            self._target = target
            await self._drop(set(fleet.roles) - set(version.roles), restart)
        restart.say(f"Done: version {version.number} runs ({target}).")
        return Outcome(is_done=True)

    def _prepare(self, role: RoleSummary) -> None:
        """Have settings and sockets ready for a role that the fleet did not have.

        Raises:
            ConfigError: It cannot listen where it should.
        """
        settings = self._running().settings[role.name] = self._settings_of(role.name)
        self._doors.open(role, settings.get("bind", role.bind))

    def _close(self, names: Iterable[str]) -> None:
        for name in names:
            self._doors.close(name)

    async def _drop(self, names: Iterable[str], restart: Restart) -> None:
        fleet = self._running()
        for name in names:
            places = list(fleet.slots(name))
            fleet.drop(name)
            await fleet.gone(places)
            self._close([name])
            restart.say(f"{name}: stopped, the app does not have it any more.")

    async def _load(self, target: str, *, gives_way: bool) -> tuple[Version, Described]:
        """Import the app in a zygote of its own.

        Raises:
            ConfigError: The name leads nowhere.
            AppBroken: It cannot start.
        """
        forker = self._forker(target)
        try:
            app = await forker.start(gives_way=gives_way)
        except BaseException:
            await forker.stop()
            raise
        return self._note(target, app, forker), app

    def _note(self, target: str, app: Described, forker: Forker) -> Version:
        self._count += 1
        version = version_of(self._count, target, app, forker)
        self._versions.append(version)
        return version

    def _check(self, wish: Wish, version: Version, app: Described) -> None:
        """Refuse what a restart cannot bring about.

        Raises:
            ConfigError: It is another app, lacks the role, or listens elsewhere.
        """
        if app.app != self._app:
            raise ConfigError(
                f"{version.target} is the app {app.app}, but {self._app} runs here.",
                fix=f"Start it beside this one: rolekit up {version.target}",
            )
        known = [name for name in version.roles if name != RELAY]
        if wish.role and wish.role not in known:
            raise ConfigError(
                f"{version.target} has no role {wish.role}.{nearest(wish.role, known)}",
                fix=f"Its roles are {', '.join(known)}.",
            )
        running = self._running().roles
        for name in [wish.role] if wish.role else known:
            if name not in running:
                continue
            now, then = running[name].bind, version.roles[name].bind
            if now != then:
                raise ConfigError(
                    f"{name} listens on {now or 'nothing'}, and would on {then or 'nothing'}; "
                    "a restart keeps the sockets that are open.",
                    fix="Stop the app and start it again: rolekit stop, rolekit up.",
                )

    async def _retire(self) -> None:
        """End the zygotes that nothing runs on any more."""
        fleet = self._running()
        for version in list(self._versions):
            if not fleet.runs(version):
                await self._forget(version)

    async def _forget(self, version: Version) -> None:
        self._versions.remove(version)
        await version.forker.stop()

    def _running(self) -> Fleet:
        if self._fleet is None:
            raise ConfigError("The fleet is not there yet.", fix="Try again in a moment.")
        return self._fleet
