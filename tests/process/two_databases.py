"""Supervise mailflow with its queues in another database than its state; run as a process.

python -m tests.process.two_databases BROKER_URL

`rolekit up` refuses a broker of its own in this version; what would run behind it, the outbox
path, is there and has to hold. All else is as in `rolekit up`: the same supervisor, the same
instances, the settings from the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from rolekit import wiring
from rolekit.config import load
from rolekit.observe import logs
from rolekit.supervisor.host import Ground
from rolekit.supervisor.serve import serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.supervisor.wire import Described


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - read by the test


def main() -> int:
    broker = sys.argv[1]
    config = replace(load(os.environ), broker=broker)
    logs.set_up(config.log, config.log_format, app="mailflow")

    @contextlib.asynccontextmanager
    async def ground(found: Described) -> AsyncGenerator[Ground]:
        await wiring.migrate(found.app, config.database, broker)
        async with wiring.open_host(found.app, config.database, broker) as host:
            yield Ground(host=host, broker=broker, database=config.database)

    return asyncio.run(serve(config, ground, _say))


if __name__ == "__main__":
    sys.exit(main())
