"""A forked instance, on its line to the supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import structlog

from rolekit import link
from rolekit.errors import AppError, ConfigError, in_a_line
from rolekit.garbage import pass_over_what_is_there
from rolekit.guest.launching import given_door
from rolekit.observe import logs
from rolekit.observe.lag import LagLog
from rolekit.observe.meters import Meters
from rolekit.roles.host import Instance
from rolekit.roles.http_passing import Passing
from rolekit.wiring.counted import Telling
from rolekit.wiring.memory import bound_memory
from rolekit.wiring.parts import build, hear
from rolekit.wiring.relaying import RELAY, run_relay
from rolekit.wiring.rhythm import Rhythm
from rolekit.wiring.shipping import Shipping
from rolekit.wiring.tracing import level_of, ratio_of, tracing_of
from rolekit.wiring.warming import common

if TYPE_CHECKING:
    import socket

    from rolekit.wiring.parts import Parts
    from rolekit.wiring.warming import Common

log = structlog.get_logger("rolekit.instance")

DONE, FAILED, REFUSED = 0, 1, 2


def instance_main(
    spec: link.InstanceSpec,
    line: socket.socket,
    listening: socket.socket | None,
    *passing: socket.socket,
) -> int:
    """Live as one instance, in a process that was just forked.

    Args:
        spec: What the supervisor tells it.
        line: To the supervisor.
        listening: The socket of `bind`, or None.
        passing: Of a WebRole: where it takes connections from siblings, and gives them. Of a
            role with containers one more: its door to the launcher.

    Returns:
        Exit status: 0 after a stop, 2 when it refuses to start, `link.ENDED` otherwise.
    """
    if spec.has_launcher:
        *others, door = (listening, *passing)
        given_door.set(door)
        listening, passing = (others[0], passing[:-1]) if others else (None, ())
    try:
        shared = common(spec.app)
    except ConfigError as error:
        return asyncio.run(_refuse(error, line))
    pass_over_what_is_there()  # does nothing in one that was forked
    settings, name = shared.settings, shared.app.name
    try:
        level = level_of(settings, spec.settings)
    except ConfigError as error:
        return asyncio.run(_refuse(error, line))
    logs.set_up(level, settings.log_format, app=name, role=spec.role, instance=spec.slot)
    way = Passing(*passing) if passing else None
    return asyncio.run(live(spec, shared, line, (listening, way)))


async def _refuse(error: ConfigError, line: socket.socket) -> int:
    line.setblocking(False)  # noqa: FBT003 - the only way to say it
    _, writer = await asyncio.open_connection(sock=line)
    return await _say_why(error, writer)


async def live(
    spec: link.InstanceSpec,
    shared: Common,
    line: socket.socket,
    sockets: tuple[socket.socket | None, Passing | None],
) -> int:
    """Live as one instance; as `instance_main`, in a loop that runs.

    Args:
        spec: What the supervisor tells it.
        shared: What all instances of its app share.
        line: To the supervisor.
        sockets: That of `bind`, and the way of connections between siblings; None: no such.

    Returns:
        Exit status.
    """
    line.setblocking(False)  # noqa: FBT003 - the only way to say it
    reader, writer = await asyncio.open_connection(sock=line)
    with closing(writer):
        return await _live_on((reader, writer), spec, shared, sockets)


async def _live_on(
    to_supervisor: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    spec: link.InstanceSpec,
    shared: Common,
    sockets: tuple[socket.socket | None, Passing | None],
) -> int:
    reader, writer = to_supervisor
    keeps_sent = shared.settings.keep_sent

    shipping = Shipping(writer)
    tracing = tracing_of(
        replace(shared.settings, broker=spec.broker, database=spec.database),
        spec.settings,
        shipping.ship,
        app=shared.app.name,
        role=spec.role,
        instance=f"{spec.role}/{spec.slot}",
    )
    if tracing is not None:
        tracing.flush = shipping.flush_begun
    parts = build(
        shared.plan,
        spec.owner,
        spec.database,
        spec.broker,
        pooler=spec.pooler,
        keeps_sent=keeps_sent,
        tracing=tracing,
        meters=Meters(),
        codec=shared.codec,
        has_queues=True,
        part=spec.role,
    )
    member = _Member(spec, shared, parts, writer, sockets)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, member.stop, 0.0)
    try:
        bound_memory(spec.role, member.max_memory_mb)
        try:
            await member.run(reader)
        finally:
            shipping.flush()
    except BaseExceptionGroup as group:
        return await _say_why(_first(group), writer, member.stage)
    except Exception as error:  # noqa: BLE001 - the edge of one instance
        return await _say_why(error, writer, member.stage)
    if member.why:
        await _tell(link.Ending(member.why), writer)
    return DONE if member.was_told else link.ENDED


class _Member:
    """One instance among its fleet: obeys the supervisor, and beats."""

    def __init__(
        self,
        spec: link.InstanceSpec,
        shared: Common,
        parts: Parts,
        writer: asyncio.StreamWriter,
        sockets: tuple[socket.socket | None, Passing | None],
    ) -> None:
        self._spec = spec
        self._settings = shared.settings
        self._parts = parts
        self._writer = writer
        self._stopped = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._instance: Instance | None = None
        if spec.role != RELAY:
            listening, passing = sockets
            self._instance = Instance(
                shared.app.role(spec.role),
                parts.services,
                values=spec.settings,
                listening=listening,
                passing=passing,
            )

    @property
    def was_told(self) -> bool:
        """Whether its end was asked for."""
        return self._stopped.is_set()

    @property
    def max_memory_mb(self) -> float | None:
        """As the settings say, or the class."""
        if self._instance is None:
            return None
        said = self._spec.settings.get("max_memory_mb")
        return float(said) if said else self._instance.role.max_memory_mb

    @property
    def stage(self) -> str:
        """What of the role runs, or has raised; empty: nothing but its handlers."""
        return "" if self._instance is None else self._instance.stage

    @property
    def why(self) -> str:
        """Why it ended by itself, or what went wrong at its end; empty: nothing."""
        live = self._instance
        if live is None:
            return ""
        by_itself = "" if self.was_told else live.why_stopped or "its run returned"
        return "; ".join(filter(None, (by_itself, live.trouble)))

    def stop(self, grace_s: float, *, is_last: bool = False) -> None:
        """Begin to stop."""
        self._stopped.set()
        if self._instance is not None:
            self._instance.stop(grace_s, is_last=is_last)

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Live until told to stop, or until the role ends by itself."""
        async with self._parts.services.running(), asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            beside = [
                tasks.create_task(self._listen(reader)),
                tasks.create_task(self._beat()),
            ]
            try:
                if self._instance is None:
                    await run_relay(self._parts.services, self._ready, self._stopped)
                else:
                    await self._instance.run(self._ready)
                    if self._instance.why_stopped:
                        log.info("recycling", why=self._instance.why_stopped)
            finally:
                for task in beside:
                    task.cancel()

    def _ready(self) -> None:
        self._writer.write(link.encode(link.Ready()))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        # A line on which something was left unsaid ends with a reset instead of an end.
        with suppress(ConnectionError):
            while line := await reader.readline():
                self._obey(link.from_supervisor(line))
        # The supervisor is gone: nobody would know of this process, or end it.
        os.kill(os.getpid(), signal.SIGKILL)

    def _obey(self, order: link.ToInstance) -> None:
        match order:
            case link.Wake(topics):
                hear(self._parts.services.runtime.bell, self._spec.owner, topics)
            case link.Stop(grace_s, is_last):
                self.stop(grace_s, is_last=is_last)
            case link.Change(values):
                if self._tasks is not None:
                    self._tasks.create_task(self._change(values))
            case link.Recalled(recalls):
                if (tracing := self._parts.services.runtime.tracing) is not None:
                    tracing.memory.recall(recalls)
            case link.Lease(held):
                if self._instance is not None:
                    self._instance.pause(not held, "lease")

    async def _change(self, values: dict[str, str]) -> None:
        """Take other settings, and say what became of them."""
        try:
            level, ratio = level_of(self._settings, values), ratio_of(self._settings, values)
            is_kept = self._instance is None or await self._instance.change(values)
            logs.set_level(level)
            tracing = self._parts.services.runtime.tracing
            if tracing is not None and ratio is not None:
                tracing.tracer.sampling = replace(tracing.tracer.sampling, ratio=ratio)
            answer = link.Changed(is_kept)
        except ConfigError as error:
            answer = link.Changed(is_kept=True, problem=str(error))
        self._writer.write(link.encode(answer))

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        rhythm = Rhythm()
        telling = Telling(self._parts, self._instance, self._writer.write)
        lags = LagLog()
        while True:
            due = loop.time() + rhythm.wait_s
            await asyncio.sleep(rhythm.wait_s)
            lag_s = max(0.0, loop.time() - due)
            lags.note(lag_s, loop.time())
            live = self._instance
            beat = link.Beat(
                in_hand=0 if live is None else live.in_hand,
                handled=0 if live is None else live.handled,
                lag_ms=lag_s * 1000,
                cpu_s=time.process_time(),
                age_s=self._parts.services.runtime.transport.delivered_age_s(),
                notes={} if live is None else live.notes,
            )
            telling.tell()
            if rhythm.is_said(beat):
                self._writer.write(link.encode(beat))


def _first(group: BaseException) -> BaseException:
    """Return the innermost first error of a group: what a person wants to read."""
    error = group
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


async def _say_why(error: BaseException, writer: asyncio.StreamWriter, stage: str = "") -> int:
    """Tell the supervisor and the log why this instance ends."""
    if isinstance(error, (AppError, ConfigError)):
        await _tell(link.Refused(str(error)), writer)
        return REFUSED
    log.error("the instance failed; its supervisor starts another", exc_info=error)
    why = in_a_line(error)
    await _tell(link.Ending(f"{stage} raised {why}" if stage else why), writer)
    return link.ENDED


async def _tell(message: link.ToSupervisor, writer: asyncio.StreamWriter) -> None:
    writer.write(link.encode(message))
    with suppress(OSError):
        await writer.drain()
