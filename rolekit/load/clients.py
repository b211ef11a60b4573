"""The client processes of a load test, and the lines between them and their driver."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from rolekit.errors import ConfigError, RolekitError
from rolekit.load.client import Order, Told
from rolekit.load.scenario import Call, Direct, Run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.load.driver import Job

_LINE_BYTES = 256 * 1024 * 1024
_READY_S = 60


@asynccontextmanager
async def clients_of(job: Job, run: str) -> AsyncGenerator[list[asyncio.subprocess.Process]]:
    """Start the client processes of a run; inside the block they are ready.

    Raises:
        ConfigError: One cannot do what the scenario asks of it.
    """
    async with AsyncExitStack() as stack:
        clients: list[asyncio.subprocess.Process] = []
        for number in range(job.scenario.clients):
            client = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "rolekit.load.client",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES, start_new_session=True,
            )  # fmt: skip
            stack.push_async_callback(_end, client)
            clients.append(client)
            needs_app = isinstance(job.scenario.entry, Direct | Call)
            say(
                client,
                Order(
                    run=Run(
                        id=run,
                        scenario=job.scenario,
                        client=number,
                        app=job.app if needs_app else "",
                        database=job.database,
                        broker=job.broker,
                    ),
                    sets=job.sets,
                ),
            )
        for client in clients:
            told = await asyncio.wait_for(hear(client), _READY_S)
            if told.problem:
                raise ConfigError(told.problem[0], fix=told.problem[1])
        yield clients


def say(client: asyncio.subprocess.Process, line: msgspec.Struct) -> None:
    """Tell a client something."""
    assert client.stdin is not None  # noqa: S101 - it is a pipe
    client.stdin.write(msgspec.json.encode(line) + b"\n")


async def hear(client: asyncio.subprocess.Process) -> Told:
    """Wait for what a client tells next.

    Raises:
        RolekitError: It ended.
    """
    assert client.stdout is not None  # noqa: S101 - it is a pipe
    line = await client.stdout.readline()
    if not line:
        raise RolekitError(
            f"A client process ended with {await client.wait()}.",
            fix="What it printed above says why.",
        )
    return msgspec.json.decode(line, type=Told)


async def _end(client: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        client.kill()
    await client.wait()
