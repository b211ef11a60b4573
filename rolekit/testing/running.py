"""A whole app in one loop, with faults on demand and a clock that a test moves."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import httpx

from rolekit.errors import ConfigError, RolekitError, TimedOut
from rolekit.flow.relay import Relay
from rolekit.flow.timers import Timers
from rolekit.model.codec import Codec
from rolekit.testing.ground import ground_for
from rolekit.testing.journal import Journal
from rolekit.testing.stage import GRACE_S, Life, RoleLife, Stage
from rolekit.transport.memory import MemoryBroker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from rolekit.flow.client import Client
    from rolekit.model.parts import DeadLetter
    from rolekit.roles.app import App
    from rolekit.roles.base import Role
    from rolekit.roles.web import WebRole

R = TypeVar("R")


class Running:
    """An app that runs within a test.

    Attributes:
        client: Sends into it.
        dead: Messages that died, in order.
    """

    client: Client
    dead: list[DeadLetter[object]]

    def __init__(self, stage: Stage, journal: Journal, outside: Life) -> None:
        self.client = outside.services.client
        self.dead = journal.dead
        self._stage = stage
        self._clock = stage.ground.clock
        self._journal = journal
        self._store = outside.services.runtime.store
        self._resources = AsyncExitStack()
        outbox = outside.services.outbox
        self._timers = Timers(stage.plan, self._store, self._clock)
        self._relay = Relay(
            self._store,
            outside.services.runtime.transport,
            stage.bell,
            self._clock,
            None if outbox is None else outbox.leave,
            self._timers,
        )

    @property
    def writes(self) -> list[tuple[str, tuple[object, ...]]]:
        """Statements of `ctx.write` in the order of their commits, with their arguments.

        Raises:
            RolekitError: The app runs on a database, which has what they wrote.
        """
        tables = self._stage.ground.tables
        if tables is None:
            raise RolekitError(
                "running.writes is kept without a database only.",
                fix="Look into the database for what the statements did.",
            )
        return [(write.sql, write.args) for write in tables.writes]

    async def idle(self, *, timeout_s: float = 5) -> None:
        """Wait until nothing is queued, in hand or due now.

        Raises:
            TimedOut: Something still is after `timeout_s`; the sentence says what.
            Exception: Whatever a role's own `run` raised meanwhile.
        """
        settling = asyncio.create_task(self._settle())
        failing = asyncio.create_task(self._stage.failed.wait())
        try:
            await asyncio.wait(
                [settling, failing],
                timeout=timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._raise_failure()
            if not settling.done():
                raise self._not_idle(timeout_s)
            await settling
        finally:
            settling.cancel()
            failing.cancel()
            await asyncio.gather(settling, failing, return_exceptions=True)
        self._raise_failure()

    async def advance(self, seconds: float, /) -> None:
        """Move the clock: delays, back-off, deadlines, cron; then wait until idle.

        What falls due on the way happens at its time, one instant after another.
        """
        target_ms = self._clock.now_ms() + round(seconds * 1000)
        await self.idle()
        while (next_ms := await self._next_ms()) is not None and next_ms <= target_ms:
            await self._move_to(max(next_ms, self._clock.now_ms()))
        await self._move_to(target_ms)

    def seen(self, cls: type[R], /) -> list[R]:
        """Return every message of this class, in the order they were sent.

        A message counts once, also where it was repeated, tried again or has several
        handlers. What is delayed counts once it is due.
        """
        return self._journal.seen(cls)

    async def kill(self, role: type[Role], /) -> None:
        """Let a role crash in the middle of what it holds, and start it again.

        If something waits for it, it holds that. How far it has come is drawn by the seed.
        """
        await self._life(role).kill()
        await self._relay.sweep()  # what it had not sent is sent by others

    def http(self, role: type[WebRole], /) -> httpx.AsyncClient:
        """Return a client that talks to a web role without a socket.

        It is closed with the app. A response comes when it is complete, so an event stream
        must end by itself.
        """
        life = self._life(role)

        async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
            web = None if life.instance is None else life.instance.web
            if web is None:
                raise RolekitError(f"{role.__name__} is not running.")
            await web(scope, receive, send)

        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url=f"http://{role.__name__.lower()}"
        )
        self._resources.push_async_callback(client.aclose)
        return client

    def address(self, role: type[Role], /) -> tuple[str, int]:
        """Return host and port of a worker role with `bind`; the port is a free one.

        Raises:
            ConfigError: It listens on none.
        """
        listening = self._life(role).listening
        if listening is None:
            raise ConfigError(f"{role.__name__} listens on no socket in a test.")
        name: tuple[str, int] = listening.getsockname()[:2]
        return name

    def _life(self, role: type[Role]) -> RoleLife:
        for life in self._stage.lives:
            if isinstance(life, RoleLife) and life.role is role:
                return life
        raise ConfigError(
            f"{role.__name__} does not run here.",
            fix="Name a role of the app; where run_app(only=...) was given, one of those.",
        )

    async def _settle(self) -> None:
        while True:
            await self._stage.quiet()
            turns = self._stage.broker.turns
            await self._relay.sweep()
            await self._relay.move_due()
            await self._relay.fire()
            await self._stage.quiet()
            if self._stage.broker.turns == turns:
                return

    async def _next_ms(self) -> int | None:
        instants = [
            await self._store.next_due_ms(),
            await self._stage.ground.next_deadline_ms(),
            await self._timers.next_ms(),
            self._stage.alarms.next_ms(),
        ]
        return min((ms for ms in instants if ms is not None), default=None)

    async def _move_to(self, ms: int) -> None:
        self._clock.advance((ms - self._clock.now_ms()) / 1000)
        self._stage.alarms.ring()
        await self._store.keep_house(ms)
        await self.idle()

    def _raise_failure(self) -> None:
        tables = self._stage.ground.tables
        if tables is not None and tables.refused:
            refused, tables.refused[:] = tables.refused[0], []
            raise refused
        if self._stage.failures:
            failure, self._stage.failures[:] = self._stage.failures[0], []
            self._stage.failed.clear()
            raise failure

    def _not_idle(self, timeout_s: float) -> TimedOut:
        busy = ", ".join(
            f"{name} ({depth.waiting} waiting, {depth.in_hand} in hand)"
            for name, depth in self._stage.broker.busy().items()
        )
        return TimedOut(
            f"The app was not idle within {timeout_s:g} s: {busy or 'it goes on and on'}.",
            fix="Give idle a longer timeout_s, or look for a handler that waits or loops.",
        )

    async def close(self) -> None:
        """End every role.

        Raises:
            Exception: What failed and was not raised by `idle`.
        """
        await self.leave(GRACE_S)
        self._raise_failure()

    async def leave(self, grace_s: float = 0) -> None:
        """End every role, and raise nothing: the test itself has failed already."""
        await self._resources.aclose()
        for life in self._stage.lives:
            await life.stop(grace_s)


@asynccontextmanager
async def run_app(  # noqa: PLR0913 - each has a default and is named
    app: App,
    *,
    broker: str = "memory",
    database: str = "memory",
    only: Sequence[type[Role]] = (),
    faults: Literal["none", "repeat", "shuffle"] = "none",
    seed: int = 0,
    settings: Mapping[str, object] | None = None,
) -> AsyncGenerator[Running]:
    """Run all roles of an app in this loop.

    Args:
        app: Checked first.
        broker: "memory"; others are not available yet.
        database: URL, or "memory", where writes are recorded and `ctx.tx` is refused.
        only: Roles to run; all of them when empty.
        faults: "repeat" delivers everything twice, "shuffle" in any order.
        seed: Of the faults, and of where a killed role had come to.
        settings: Of roles, such as {"Payments.api_key": "k"}.

    Raises:
        AppError: The app has problems.
        ConfigError: An argument does not fit the app.
        Exception: Whatever a role raised in `on_start`.
    """
    plan = app.plan()
    _check(app, broker, only)
    values = _by_role(app, settings or {})
    journal = Journal(plan, Codec(plan.types, plan.wire_names, plan.codec))
    async with ground_for(plan, journal, database) as ground:
        queues = MemoryBroker(ground.clock, faults=faults, seed=seed)
        queues.watch = journal.published
        stage = Stage(plan, ground, queues)
        running = Running(stage, journal, Life(stage))
        try:
            for role in only or app.roles:
                RoleLife(stage, role, values.get(role.__name__, {}))
            for life in stage.lives:
                await life.start()
            yield running
        except BaseException:
            await running.leave()
            raise
        await running.close()


def _check(app: App, broker: str, only: Sequence[type[Role]]) -> None:
    if broker != "memory":
        raise ConfigError(
            f"run_app(broker={broker!r}) is not available yet; it takes 'memory'.",
            fix="Leave it out.",
        )
    for role in only:
        if role not in app.roles:
            raise ConfigError(
                f"run_app(only=[{role.__name__}]): {app.name} has no such role; "
                f"it has {', '.join(each.__name__ for each in app.roles)}."
            )


def _by_role(app: App, settings: Mapping[str, object]) -> dict[str, dict[str, object]]:
    names = [role.__name__ for role in app.roles]
    found: dict[str, dict[str, object]] = {}
    for key, value in settings.items():
        role, _, name = key.partition(".")
        if role not in names or not name:
            raise ConfigError(
                f"run_app was given a setting {key!r}; 'Role.name' is expected, and the roles "
                f"are {', '.join(names)}."
            )
        found.setdefault(role, {})[name] = value
    return found
