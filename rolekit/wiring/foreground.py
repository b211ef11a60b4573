"""One process on its own: a role in the foreground, or a client from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from rolekit import config as configuration
from rolekit import link
from rolekit.garbage import pass_over_what_is_there
from rolekit.observe.collecting import Collector, export_to
from rolekit.observe.meters import Meters
from rolekit.observe.recalling import Recalling
from rolekit.roles.host import Instance, bound_socket
from rolekit.supervisor import control_server
from rolekit.wiring.answering import Answering
from rolekit.wiring.hosting import migrate, open_host
from rolekit.wiring.instance import DONE, FAILED
from rolekit.wiring.parts import build, hear, load_app, settled, sources_of
from rolekit.wiring.relaying import run_relay
from rolekit.wiring.tracing import tracing_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from rolekit.config import Config
    from rolekit.flow.app_client import AppClient
    from rolekit.flow.remembered import Memory
    from rolekit.model.span import Recall
    from rolekit.observe.otlp import OtlpExport
    from rolekit.roles.app import App
    from rolekit.roles.services import Services
    from rolekit.wiring.hosting import Host
    from rolekit.wiring.parts import Parts

log = structlog.get_logger("rolekit.run")


@dataclass(frozen=True, slots=True)
class _Alone:
    """A host of one process."""

    parts: Parts
    host: Host
    lost: Callable[[], dict[str, int]]

    @property
    def services(self) -> Services:
        return self.parts.services


@asynccontextmanager
async def _alone(
    app: App, database: str, config: Config, role: str, meters: Meters | None = None
) -> AsyncGenerator[_Alone]:
    """Be a host of one process: lease, wake-ups and the loops of the flow."""
    plan, broker = settled(app.plan(), config), config.broker
    queues, sources = plan.queues(), sources_of(plan)
    await migrate(app.name, database, broker, queues, sources, partitions=plan.partitions)
    async with open_host(app.name, database, broker, queues, sources) as host:
        owner = host.epoch << link.OWNER_BITS | 1
        async with _collecting(config, app.name, host, role) as collecting:
            tracing = tracing_of(
                replace(config, database=database),
                config.for_role(role),
                partial(collecting.collector.take, role),
                app=app.name,
                role=role,
                instance=f"{role}@{socket.gethostname()}",
            )
            parts = build(
                plan, owner, database, broker, keeps_sent=config.keep_sent, tracing=tracing,
                meters=meters,
            )  # fmt: skip

            if tracing is not None:
                collecting.memory = tracing.memory

            async def listen() -> None:
                async for topics in host.topics():
                    hear(parts.services.runtime.bell, owner, topics)

            async with parts.services.running():
                listening = asyncio.create_task(listen())
                try:
                    yield _Alone(parts, host, collecting.lost)
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
        async with asyncio.timeout(2):
            await host.release(owner)


class _Collecting:
    """Where the spans of one process go, and who asks it for what it remembers."""

    def __init__(self, host: Host, export: OtlpExport | None) -> None:
        offer = None if export is None else export.offer
        self.export = export
        self.collector = Collector(host.traces.keep, host.traces.tidy, offer)
        self.recalling = Recalling(host.traces, self._tell)
        self.collector.on_late = self.recalling.take
        self.memory: Memory | None = None

    def lost(self) -> dict[str, int]:
        """Say what is missing of traces, by names of numbers."""
        unsent = 0 if self.export is None else self.export.dropped
        return {
            "rolekit.spans.dropped": self.collector.dropped + unsent,
            "rolekit.traces.cut": self.recalling.cut,
        }

    def _tell(self, recalls: list[Recall]) -> None:
        if self.memory is not None:
            self.memory.recall(recalls)


@asynccontextmanager
async def _collecting(
    config: Config, app: str, host: Host, role: str
) -> AsyncGenerator[_Collecting]:
    """Keep spans, and send them on: until all has stopped that makes any.

    What stops still commits, and what leaves with that has spans; so they go to the database
    by the host's connection, which is there longer than that of the role.
    """
    here = _Collecting(host, export_to(config.otlp, os.environ, app))
    tasks = [asyncio.create_task(one.run()) for one in (here.collector, here.recalling)]
    try:
        yield here
    finally:
        here.collector.gone(role, "")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if here.export is not None:
            await asyncio.to_thread(here.export.close)


async def run_role(config: Config, app_ref: str, role_name: str) -> int:
    """Run one role in the foreground until a signal: its own supervisor in small.

    Raises:
        ConfigError: It cannot listen where it should, or its settings cannot be used.
    """
    config.check_control()
    address = config.control_address
    with control_server.listening_at(address) if address else nullcontext() as taken:
        return await _run_role(config, app_ref, role_name, taken)


async def _run_role(
    config: Config, app_ref: str, name: str, taken: socket.socket | None
) -> int:
    app = load_app(app_ref)
    role, values = app.role(name), config.for_role(name)
    bind = values.get("bind", role.bind)
    stopped = asyncio.Event()
    async with _alone(app, config.database, config, name, Meters()) as alone:
        services = alone.services
        answering = Answering(config, alone.parts, alone.host, name, alone.lost)
        instance = Instance(
            role, services, values=values, listening=bound_socket(bind) if bind else None
        )
        answering.watch(instance)

        def stop() -> None:
            stopped.set()
            instance.stop(config.grace_s)

        def ready() -> None:
            answering.ready()
            log.info("ready", role=name)

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        async with answering.running(taken):
            relaying = asyncio.create_task(run_relay(services, lambda: None, stopped))
            pass_over_what_is_there()
            try:
                await instance.run(ready)
            finally:
                relaying.cancel()
                await asyncio.gather(relaying, return_exceptions=True)
    return DONE if stopped.is_set() else FAILED


@asynccontextmanager
async def open_client(app: App, config: Config | None = None) -> AsyncGenerator[AppClient]:
    """Connect to a running app from outside.

    Raises:
        ConfigError: The settings cannot be used.
        Unavailable: The database cannot be reached.
    """
    settings = config or configuration.load(os.environ)
    async with (
        _database_url(settings) as url,
        _alone(app, url, settings, "client") as alone,
    ):
        services = alone.services
        yield services.client
        if services.outbox is not None:
            await services.outbox.empty()


@asynccontextmanager
async def _database_url(config: Config) -> AsyncGenerator[str]:
    if config.database:
        yield config.database
        return
    from rolekit.store import embedded  # noqa: PLC0415 - only where the wheel is wanted

    async with embedded.server(config.home) as url:
        yield url
