"""One process on its own: a role in the foreground, or a client from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from rolekit import config as configuration
from rolekit import link
from rolekit.observe.collecting import Collector, export_to
from rolekit.roles.host import Instance, bound_socket
from rolekit.store.postgres.traces import TraceStore
from rolekit.wiring.hosting import migrate, open_host
from rolekit.wiring.instance import DONE, FAILED
from rolekit.wiring.parts import build, hear, load_app, settled, sources_of
from rolekit.wiring.relaying import run_relay
from rolekit.wiring.tracing import tracing_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.config import Config
    from rolekit.flow.app_client import AppClient
    from rolekit.model.span import Span
    from rolekit.roles.app import App
    from rolekit.roles.host import Services

log = structlog.get_logger("rolekit.run")


@asynccontextmanager
async def _alone(
    app: App, database: str, config: Config, role: str
) -> AsyncGenerator[tuple[Services, int]]:
    """Be a host of one process: lease, wake-ups and the loops of the flow."""
    plan, broker = settled(app.plan(), config), config.broker
    queues, sources = plan.queues(), sources_of(plan)
    await migrate(app.name, database, broker, queues, sources, partitions=plan.partitions)
    async with open_host(app.name, database, broker, queues, sources) as host:
        owner = host.epoch << link.OWNER_BITS | 1
        collector: Collector | None = None

        def ship(span: Span) -> None:
            if collector is not None:
                collector.take(role, span)

        tracing = tracing_of(
            replace(config, database=database),
            config.for_role(role),
            ship,
            app=app.name,
            role=role,
            instance=f"{role}@{socket.gethostname()}",
        )
        parts = build(
            plan, owner, database, broker, keeps_sent=config.keep_sent, tracing=tracing
        )
        services, traces = parts.services, TraceStore(parts.database)
        export = export_to(config.otlp, os.environ, app.name)
        offer = None if export is None else export.offer
        collector = Collector(traces.keep, traces.tidy, offer)

        async def listen() -> None:
            async for topics in host.topics():
                hear(services.runtime.bell, owner, topics)

        async with services.running():
            beside = [asyncio.create_task(listen()), asyncio.create_task(collector.run())]
            try:
                yield services, owner
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                if export is not None:
                    await asyncio.to_thread(export.close)
        async with asyncio.timeout(2):
            await host.release(owner)


async def run_role(config: Config, app_ref: str, role_name: str) -> int:
    """Run one role in the foreground until a signal: its own supervisor in small."""
    app = load_app(app_ref)
    role = app.role(role_name)
    values = config.for_role(role_name)
    bind = values.get("bind", role.bind)
    stopped = asyncio.Event()
    async with _alone(app, config.database, config, role_name) as (services, _):
        instance = Instance(
            role, services, values=values, listening=bound_socket(bind) if bind else None
        )

        def stop() -> None:
            stopped.set()
            instance.stop(config.grace_s)

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        relaying = asyncio.create_task(run_relay(services, lambda: None, stopped))
        try:
            await instance.run(lambda: log.info("ready", role=role_name))
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
        _alone(app, url, settings, "client") as (services, _),
    ):
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
