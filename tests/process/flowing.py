"""Mail that keeps flowing through mailflow while a test breaks things, and the end of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Self

import asyncpg

from examples.mailflow import checker
from examples.mailflow.load import Mail, Sender, make_load
from examples.mailflow.samples import all_samples
from tests.patience import patient
from tests.process.mailflow_ledger import Ledger, read_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from examples.mailflow.load import Target

SMALL_BYTES = 20_000
"""Samples beyond are left out: they test bytes, and cost the time that faults need."""
UNDER_WAY = 300
"""Copies under way at once: so many that a fault finds something, and that the end is near."""
PATIENCE_S = patient(60.0)
STALLED_S = patient(30.0)
QUIET_S = 10.0
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What a query raises whose server went away."""


class Look:
    """Reads single numbers from a database that may be away."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def number(self, sql: str) -> int | None:
        """Return the number that a query gives; None while nobody answers."""
        try:
            if self._connection is None:
                self._connection = await asyncpg.connect(self._url, timeout=2)
            return int(await self._connection.fetchval(sql, timeout=5))
        except (*LOST, TimeoutError):
            await self._close()
            return None

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


async def keep_flowing(
    target: Target, database: str, copies: int, enough: asyncio.Event
) -> list[checker.Expected]:
    """Keep mail flowing until it is enough and so many copies were sent; each mail surely.

    What is under way is kept at a level instead of a rate, so that on a fast machine too a
    fault finds somebody at work.
    """
    sent = closed = 0
    mails = _mails()
    tasks: list[asyncio.Task[checker.Expected]] = []
    async with Sender(target, patience_s=PATIENCE_S) as sender, Look(database) as look:

        async def one(mail: Mail) -> checker.Expected:
            return mail.expected(await sender.send(mail))

        async with asyncio.TaskGroup() as group:
            while not (enough.is_set() and sent >= copies):
                closed = await look.number("select count(*) from mail.report") or closed
                while sent - closed < UNDER_WAY:
                    mail = next(mails)
                    tasks.append(group.create_task(one(mail)))
                    sent += len(mail.recipients)
                await asyncio.sleep(0.1)
        return [task.result() for task in tasks]


def _mails() -> Iterator[Mail]:
    """Make mails without end, no two alike."""
    samples = [sample for sample in all_samples() if len(sample.raw) < SMALL_BYTES]
    for number in itertools.count():
        yield from make_load(samples, copies=500, people=100, run=f"flow-{number}")


async def drained(
    database: str, broker: str, sent: Sequence[checker.Expected]
) -> tuple[checker.Findings, Ledger]:
    """Wait until nothing is on its way, or nothing gets on; return what two checkers say."""
    async with Look(database) as state, Look(broker or database) as queues:
        await _until_closed(state, sum(len(mail.recipients) for mail in sent))
        await _until_quiet(state, queues)
    connection = await asyncpg.connect(database)
    try:
        queues_connection = await asyncpg.connect(broker or database)
        try:
            findings = await checker.check(connection, sent)
            return findings, await read_ledger(connection, queues_connection, sent)
        finally:
            await queues_connection.close()
    finally:
        await connection.close()


async def _until_closed(state: Look, copies: int) -> None:
    last, since = -1, time.monotonic()
    while (count := await state.number("select count(*) from mail.report")) != copies:
        if count != last:
            last, since = -1 if count is None else count, time.monotonic()
        elif time.monotonic() - since > STALLED_S:
            return
        await asyncio.sleep(0.1)


async def _until_quiet(state: Look, queues: Look) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            while await _left(state, queues):  # noqa: ASYNC110 - a database tells nobody
                await asyncio.sleep(0.1)


async def _left(state: Look, queues: Look) -> int | None:
    queued = await queues.number("select count(*) from rolekit_mailflow.queue")
    return queued or await state.number(
        "select (select count(*) from rolekit_mailflow.outbox)"
        " + (select count(*) from rolekit_mailflow.schedule)"
    )
