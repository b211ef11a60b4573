"""Messages that are sent to an app which runs, and what is kept of their traces."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

from rolekit.database import Database
from rolekit.store.postgres.traces import TraceStore
from rolekit.wiring import open_client
from tests.process.supervised import ROOT

if TYPE_CHECKING:
    from rolekit import App, Message
    from rolekit.config import Config
    from rolekit.model.span import Span


def sent(app: App, config: Config, *messages: Message) -> list[str]:
    """Send these; return their ids."""

    async def send() -> list[str]:
        async with open_client(app, config) as client:
            return [receipt.id for receipt in await client.send_many(messages)]

    return asyncio.run(send())


async def newest(database: Database, id_: str) -> list[Span]:
    """Return the spans of the newest trace of a message."""
    traces = await TraceStore(database).of(id_)
    return traces[0] if traces else []


def spans_of(app: App, config: Config, id_: str) -> list[Span]:
    """Return the spans of the newest trace of a message."""

    async def read() -> list[Span]:
        database = Database(config.database, app.name)
        try:
            return await newest(database, id_)
        finally:
            await database.close()

    return asyncio.run(read())


def rolekit(config: Config, *arguments: str) -> tuple[int, str, str]:
    """Run a command of the app; return its exit code and what it printed."""
    settings = [f"database={config.database}", f"home={config.home}"]
    command = [sys.executable, "-m", "rolekit", *arguments, "--app", config.app]
    for setting in settings:
        command += ["--set", setting]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr
