"""One instance in one process: from `on_start` to `on_stop`, with everything between.

start   resources, settings, on_start
live    handlers, the role's own `run`, HTTP; until told to stop, or one of them ends
stop    take no more, finish what is in hand, on_stop, resources; each bounded
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal, cast

import anyio
import anyio.to_thread
import structlog

from rolekit import events
from rolekit.errors import ConfigError, RolekitError, in_a_line
from rolekit.flow.batches import Batches
from rolekit.flow.call import Around, Handler
from rolekit.flow.consume import Consumer
from rolekit.flow.grace import Grace
from rolekit.flow.keyed.consumer import KeyedConsumer
from rolekit.flow.keyed.pipeline import KeyedPipeline
from rolekit.flow.pipeline import Pipeline
from rolekit.flow.step_context import TypedTransaction
from rolekit.guest.crew import guests_running
from rolekit.model.recycling import LIMITS
from rolekit.roles import settings
from rolekit.roles.base import attach
from rolekit.roles.http_server import ServerState, serve
from rolekit.roles.vm import VMRole, naming_its_message
from rolekit.roles.web import WebRole, attach_front
from rolekit.roles.worker import WorkerRole

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from rolekit.flow.context import Transaction
    from rolekit.roles.base import Role
    from rolekit.roles.http_passing import Passing
    from rolekit.roles.services import Services

log = structlog.get_logger("rolekit.instance")

ON_STOP_S = 10.0
LAST_EVENTS_S = 2.0
ON_CHANGE_S = 10.0
TO_SEND_S = 2.0
"""Who takes requests waits so long for a connection to send by, before it is ready without."""


class Instance:
    """One copy of a role.

    Attributes:
        why_stopped: Of one that ends by itself.
        trouble: What went wrong at its end, a clause; empty: nothing.
        stage: What of the role runs, or has raised; empty: nothing but its handlers.

    Args:
        role_class: Which role.
        services: Of this process.
        values: Settings, by name.
        listening: The socket of `bind`, or None.
        passing: Of a WebRole that has siblings.
    """

    def __init__(
        self,
        role_class: type[Role],
        services: Services,
        *,
        values: Mapping[str, object] | None = None,
        listening: socket.socket | None = None,
        passing: Passing | None = None,
    ) -> None:
        self.role = role_class()
        self._services = services
        self._values = values or {}
        self._listening = listening
        self._passing = passing
        self._stopping = asyncio.Event()
        self._starting: asyncio.Timeout | None = None
        self._grace_s = 20.0
        self._grace = Grace()
        self.why_stopped = ""
        self.trouble = ""
        self.stage: Literal["", "on_start", "run"] = ""
        self.consumer: Consumer | None = None
        self.keyed: KeyedConsumer | None = None
        self._pauses: set[str] = set()
        self._is_live = False
        self._web = ServerState()

    def stop(self, grace_s: float, why: str = "", *, is_last: bool = False) -> None:
        """Begin to stop; `run` returns when that is done. Again, with less time: hurry.

        Args:
            grace_s: For what is in hand.
            why: Of an instance that ends by itself.
            is_last: Nobody of the role stays who could go on with kept connections.
        """
        if self._passing is not None and is_last:
            self._passing.is_wanted = False
        if self._stopping.is_set() and grace_s < self._grace_s:
            self._hurry()
        self._grace_s = grace_s
        self.why_stopped = self.why_stopped or why
        self._stopping.set()
        if self._starting is not None:
            self._starting.reschedule(asyncio.get_running_loop().time())

    async def run(self, ready: Callable[[], None]) -> None:
        """Live; returns after an orderly end.

        Args:
            ready: Called once messages and requests are taken.

        Raises:
            Exception: What `on_start` or the role's own `run` raised.
        """
        role = self.role
        async with AsyncExitStack() as resources:
            attach(role, resources, self._listening, self.pause)
            settings.apply(role, _own(role, self._values))
            if (tracing := self._services.runtime.tracing) is not None:
                role._tracer = tracing.tracer  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            if isinstance(role, WebRole):
                attach_front(role, self._services.client, self._transaction)
            if isinstance(role, VMRole):
                await resources.enter_async_context(guests_running(role))
            self.stage = "on_start"
            if not await self._start(role):
                return
            self.stage = ""
            try:
                if isinstance(role, WebRole):
                    await self._connect_to_send()
                await self._live(ready)
            finally:
                await self._put_away(role)
                await self._tell_end(role)

    async def _start(self, role: Role) -> bool:
        """Run `on_start`; False when it was told to stop meanwhile, which ends it."""
        cut = self._unless_stopped()
        try:
            # In this task: what it enters, such as a task group, is left by this one too.
            async with cut:
                await role.on_start()
        except TimeoutError:
            if not cut.expired():
                raise
            return False
        finally:
            self._starting = None
        return True

    def _unless_stopped(self, within_s: float | None = None) -> asyncio.Timeout:
        """Make what cuts short, when it is told to stop, or after so many seconds."""
        self._starting = asyncio.timeout(0 if self._stopping.is_set() else within_s)
        return self._starting

    async def _put_away(self, role: Role) -> None:
        """Run `on_stop`; whatever it does, the instance ends."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(ON_STOP_S) as scope:
            try:
                await role.on_stop()
            except Exception as error:
                self.trouble = f"on_stop raised {in_a_line(error)}"
                log.exception("on_stop failed; the instance ends all the same")
        if scope.cancelled_caught:
            self.trouble = f"on_stop took longer than {ON_STOP_S:g} s and was cancelled"
            log.warning("on_stop took too long and was cancelled", limit_s=ON_STOP_S)

    async def _tell_end(self, role: Role) -> None:
        """Tell observers of events, and let them see what they have not seen yet."""
        why = f"its {self.stage} raised" if self.stage else self.why_stopped
        events.emit(events.Stopped(role=type(role).__name__, why=why))
        if events.waiting():
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(events.drain, LAST_EVENTS_S)

    async def change(self, values: Mapping[str, object]) -> bool:
        """Take other settings while running; False when a fresh instance must.

        Raises:
            ConfigError: They cannot be used; nothing was changed.
        """
        role, before = self.role, self._values
        now = settings.resolved(type(role), _own(type(role)(), values))
        if not self._is_live or any(before.get(name) != values.get(name) for name in _FRESH):
            return False
        changed = {
            name: value
            for name, value in now.items()
            if name not in FRAMEWORK and value != getattr(role, name)
        }
        self._values = values
        for name, value in changed.items():
            setattr(role, name, value)
        if not changed:
            return True
        try:
            async with asyncio.timeout(ON_CHANGE_S):
                return bool(await role.on_change(changed))
        except Exception:
            log.exception("on_change failed; a fresh instance takes over", changed=[*changed])
            return False

    async def _live(self, ready: Callable[[], None]) -> None:
        role = self.role
        loops: list[asyncio.Task[None]] = []
        web_stopping = anyio.Event() if isinstance(role, WebRole) else None
        if isinstance(role, WorkerRole):
            self._hire(role)
            for consumer in self._consumers():
                await consumer.start()
                if self._pauses:
                    consumer.pause()
            if type(role).run is not WorkerRole.run:
                loops.append(asyncio.create_task(role.run(self._services.client), name="run"))
        if isinstance(role, WebRole) and web_stopping is not None:
            loops.append(asyncio.create_task(self._serve(role, web_stopping), name="serve"))
        stopped = asyncio.create_task(self._stopping.wait(), name="stop")
        self._is_live = True
        ready()
        events.emit(events.Started(role=type(role).__name__))
        try:
            await asyncio.wait([*loops, stopped], return_when=asyncio.FIRST_COMPLETED)
            if web_stopping is not None:
                web_stopping.set()
            await self._end(role, loops)
        finally:
            for task in (*loops, stopped):
                task.cancel()
            await asyncio.wait([*loops, stopped])
        for task in loops:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.stage = "run"
                raise error

    async def _connect_to_send(self) -> None:
        """Connect for sending, so that the first request does not wait for that, if it goes.

        Who takes requests is ready all the same, and whoever sends is told what is wrong.
        """
        try:
            async with self._unless_stopped(TO_SEND_S):
                await self._services.runtime.transport.connect_to_send()
        except (RolekitError, TimeoutError) as error:
            if not self._stopping.is_set():
                log.warning("cannot connect for sending yet", reason=str(error) or "no answer")
        finally:
            self._starting = None

    async def _end(self, role: Role, loops: list[asyncio.Task[None]]) -> None:
        """Finish: intake first, then what is in hand."""
        if isinstance(role, WebRole):
            with suppress(TimeoutError):
                async with self._grace.within(self._grace_s):
                    await asyncio.wait(loops)
        await asyncio.gather(*(one.stop(self._grace_s) for one in self._consumers()))

    def _hurry(self) -> None:
        self._grace.end()
        for one in self._consumers():
            one.hurry()

    @property
    def in_hand(self) -> int:
        """Deliveries taken and not settled, and requests not answered."""
        return len(self._web.tasks) + sum(one.in_hand for one in self._consumers())

    @property
    def unaccounted(self) -> int:
        """Deliveries that came, came to nothing and are not in hand; 0 at rest."""
        meters = self._services.runtime.meters
        if meters is None:
            return 0
        in_hand = sum(one.in_hand for one in self._consumers())
        came = meters.counter("messaging.client.consumed.messages").value
        return came - meters.settled - in_hand

    @property
    def handled(self) -> int:
        """Deliveries settled since the start, and requests answered."""
        return self._web.total_requests + sum(one.handled for one in self._consumers())

    @property
    def notes(self) -> dict[str, str]:
        """What people should know of its handlers now, by name."""
        notes = {} if self.consumer is None else self.consumer.gates.notes
        return notes | ({} if self.keyed is None else self.keyed.notes)

    def _consumers(self) -> list[Consumer | KeyedConsumer]:
        return [one for one in (self.consumer, self.keyed) if one is not None]

    def _hire(self, role: WorkerRole) -> None:
        """Make the consumers of a role: of plain queues, and of partitions."""
        runtime, services = self._services.runtime, self._services
        around = None
        if type(role).around is not WorkerRole.around:
            around = cast("Around", role.around)
        if isinstance(role, VMRole):
            around = naming_its_message(around)
        handlers = {
            plan.name: Handler(plan, getattr(role, plan.method), around)
            for plan in runtime.plan.of_role(type(role).__name__)
        }
        plain = {name: one for name, one in handlers.items() if not one.plan.key}
        keyed = {name: one for name, one in handlers.items() if one.plan.key}
        made = (services.committer, services.forwarder, self._recycle)
        if plain:
            pipeline = Pipeline(runtime, plain, *made)
            batches = Batches(runtime, plain, services.committer, self._recycle)
            self.consumer = Consumer(
                runtime, plain, pipeline, services.committer, role.concurrency, batches
            )
        if keyed:
            line = KeyedPipeline(runtime, keyed, *made)
            self.keyed = KeyedConsumer(
                runtime, type(role).__name__, keyed, line, role.concurrency
            )

    async def _serve(self, role: WebRole, stopping: anyio.Event) -> None:
        assert self._listening is not None  # noqa: S101 - the supervisor binds every WebRole
        tracing = self._services.runtime.tracing
        await serve(
            role,
            self._services.client,
            self._listening,
            stopping=stopping,
            passing=self._passing,
            state=self._web,
            tracer=None if tracing is None else tracing.tracer,
        )

    def pause(self, paused: bool, why: str = "role") -> None:  # noqa: FBT001 - as Role calls it
        """Take no new work while there is any reason for that."""
        (self._pauses.add if paused else self._pauses.discard)(why)
        for consumer in self._consumers():
            (consumer.pause if self._pauses else consumer.resume)()

    def _recycle(self, why: str) -> None:
        self.stop(self._grace_s, why)

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[Transaction]:
        async with self._services.runtime.store.transaction() as raw:
            yield TypedTransaction(raw)


MAX_CONCURRENCY = 65_535
"""AMQP has 16 bits for the deliveries that a consumer may have in hand."""
FRAMEWORK = ("concurrency", "instances", "bind", "traces", "log", *LIMITS)
"""Settings of every role that are not its own."""
_FRESH = ("concurrency", "max_memory_mb")
"""Of those, the ones that an instance cannot change while it runs."""


def _own(role: Role, values: Mapping[str, object]) -> dict[str, object]:
    """Take out what every role has; what is left are the settings of this one."""
    if isinstance(role, WorkerRole):
        text = str(values.get("concurrency", role.concurrency))
        if not text.isdigit() or not 1 <= int(text) <= MAX_CONCURRENCY:
            raise ConfigError(
                f"{type(role).__name__}.concurrency is {text!r}; 1 to {MAX_CONCURRENCY} is "
                "expected.",
                fix="Change it in the class, or where `rolekit config` says it comes from.",
            )
        role.concurrency = int(text)  # type: ignore[misc]  # a setting may differ by instance
    return {name: value for name, value in values.items() if name not in FRAMEWORK}


def bound_socket(bind: str) -> socket.socket:
    """Open and listen on "host:port", for a role that runs without a supervisor."""
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as supervisor/sockets.py
    opened.bind((host.strip("[]"), int(port)))
    opened.listen(1024)
    return opened
