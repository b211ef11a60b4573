"""The page about FastStream, run beside the real one."""

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

PAGE = "docs/how-to/beside-faststream.md"
RUN = """
import asyncio
from stream import stream
asyncio.run(stream.run())
"""
SEND = """
import asyncio
from stream import broker, order, orders

async def send():
    async with broker:
        await broker.declare_queue(orders)
        for number in ("1", "1", "2"):
            await order(number, 500)
        await broker.publish({"order": 3}, queue=orders, message_id="bad")

asyncio.run(send())
"""


@pytest.fixture
def shown(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("ROLEKIT_BROKER", broker_url)
    with imported(PAGE, "orders_page", blocks=slice(1, 2)) as module:
        yield module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stream.py").write_text(programs(PAGE)[0])
    (tmp_path / "run_stream.py").write_text(RUN)
    return tmp_path


@pytest.fixture
async def db(rolekit_database: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(rolekit_database)
    await connection.execute("create table orders (id text, cents int)")
    yield connection
    await connection.close()


async def test_messages_of_faststream_are_handled_once_and_messages_for_it_arrive(
    shown: ModuleType,
    folder: Path,
    db: asyncpg.Connection,
    rolekit_database: str,
    broker_url: str,
) -> None:
    env = {"ROLEKIT_BROKER": broker_url}
    await ran(folder, SEND, **env)

    async with (
        peer(folder, "run_stream", **env) as stream,
        wired(shown.app, rolekit_database, broker_url) as services,
    ):
        audited = sorted([await stream.said("audited"), await stream.said("audited")])
        while not (  # noqa: ASYNC110 - nobody tells
            dead := await services.runtime.store.dead_letters(Letters(), limit=9)
        ):
            await asyncio.sleep(0.05)
        rows = await db.fetch("select * from orders order by id")

    assert [tuple(row) for row in rows] == [("1", 500), ("2", 500)]
    assert audited == ["audited 1 500\n", "audited 2 500\n"]
    assert "Expected `str`, got `int` - at `$.order`" in dead[0].reason
