"""Bring up what commands stand on: a database and a broker that answer and are up to date."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from rolekit.cli.console import say
from rolekit.supervisor.host import Ground

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.config import Config
    from rolekit.supervisor.wire import Described

# Drivers are imported where they are used: `rolekit ps` should not wait for them.


@asynccontextmanager
async def database_of(config: Config, wait_s: float) -> AsyncGenerator[Config]:
    """Make sure a database answers; yield the settings with its URL in them.

    Raises:
        Unavailable: None answered within `wait_s` seconds.
    """
    if config.is_embedded:
        from rolekit.store import embedded  # noqa: PLC0415 - see above

        async with embedded.server(config.home) as url:
            yield replace(config, database=url)
    else:
        from rolekit import wiring  # noqa: PLC0415 - see above

        await wiring.wait_for(config.database, wait_s, say)
        await wiring.wait_for_broker(config.broker, wait_s, say)
        yield config


@asynccontextmanager
async def ground(config: Config, found: Described, wait_s: float) -> AsyncGenerator[Ground]:
    """Bring database and broker of an app up to date, and open this host's link to them."""
    from rolekit import wiring  # noqa: PLC0415 - see above

    async with database_of(config, wait_s) as there:
        await _migrate(there, found)
        link = wiring.open_host(
            found.app,
            there.database,
            there.broker,
            found.queues,
            found.sources,
            found.names_here,
        )
        async with link as host:
            if there.pooler:
                await wiring.check_pooler(found.app, there.pooler, host.epoch, wait_s, say)

            async def adopt(version: Described) -> None:
                await _migrate(there, version)
                host.look_at(version.queues)
                host.roles = version.names_here

            yield Ground(
                host=host,
                broker=there.broker,
                database=there.database,
                pooler=there.pooler,
                measure=host.backlog,
                sequences=host.open_sequences,
                adopt=adopt,
                traces=host.traces,
            )


async def _migrate(there: Config, found: Described) -> None:
    from rolekit import wiring  # noqa: PLC0415 - see above

    await wiring.migrate(
        found.app,
        there.database,
        there.broker,
        found.queues,
        found.sources,
        partitions=found.partitions,
    )
