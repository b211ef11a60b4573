"""The page about Celery, run beside the real one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rolekit.store.base import Letters
from tests.examples.pages import imported, programs
from tests.examples.peers import peer, ran
from tests.wired import wired

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path
    from types import ModuleType

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(90)]

PAGE = "docs/how-to/beside-celery.md"
SEND = """
from datetime import datetime, timedelta, timezone
from legacy import legacy, send_mail
{declare}
for _ in range(2):
    send_mail.apply_async(["ann"], {{"subject": "Hello"}}, task_id="1")
send_mail.apply_async(["bob"], countdown=1.5, task_id="2")
past = datetime.now(timezone.utc) - timedelta(seconds=5)
send_mail.apply_async(["old"], expires=past, task_id="3")
(send_mail.si("chained") | send_mail.si("never")).apply_async(task_id="4")
"""


@pytest.fixture
def shown(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("CELERY_BROKER_URL", broker_url)
    with imported(PAGE, "mails_page", blocks=slice(1, 2)) as module:
        yield module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "legacy.py").write_text(programs(PAGE)[0])
    return tmp_path


@pytest.fixture
async def db(rolekit_database: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(rolekit_database)
    await connection.execute("create table mails (recipient text, subject text)")
    yield connection
    await connection.close()


async def test_tasks_of_celery_are_handled_once_and_tasks_for_celery_are_worked(
    shown: ModuleType,
    folder: Path,
    db: asyncpg.Connection,
    rolekit_database: str,
    broker_url: str,
) -> None:
    env = {"CELERY_BROKER_URL": broker_url}
    await ran(folder, SEND.format(declare=programs(PAGE)[2]), **env)
    worker = ["celery", "-A", "legacy", "worker", "--pool", "solo", "-l", "warning"]

    async with (
        peer(folder, *worker, "-Q", "celery", **env) as celery,
        wired(shown.app, rolekit_database, broker_url) as services,
    ):
        archived = [await celery.said("archived"), await celery.said("archived")]
        while not (  # noqa: ASYNC110 - nobody tells
            dead := await services.runtime.store.dead_letters(Letters(), limit=9)
        ):
            await asyncio.sleep(0.05)
        mails = await db.fetch("select * from mails order by recipient")

    assert [tuple(row) for row in mails] == [("ann", "Hello"), ("bob", "")]
    told = sorted(line.partition("archived ")[2].strip() for line in archived)
    assert told == ["ann for rolekit", "bob for rolekit"]
    assert [one.reason.partition(", which")[0] for one in dead] == [
        "The body of a legacy.send_mail cannot be read: it has a chain"
    ]
