"""Instances that write: a connection when it is needed, or a few for all through a pooler.

ROLEKIT_INSTANCES=1000 shows it at the size that is promised.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Self

import asyncpg
import psutil
import pytest

from tests.pgbouncer import ROLE, PrivatePgBouncer
from tests.process.many import Many
from tests.process.supervised import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import PrivatePostgres

COUNT = int(os.environ.get("ROLEKIT_INSTANCES", "30"))
UP_S = 30.0 + COUNT * 0.06
POOL = 5
DIRECT = 20
"""Of the supervisor, its relay and the client, however many instances there are."""
IDLE_S = 4.0

pytestmark = pytest.mark.timeout(120 + COUNT / 5)


def ask(url: str, *statements: str) -> list[asyncpg.Record]:
    """Run statements; return the rows of the last."""

    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            found: list[asyncpg.Record] = []
            for statement in statements:
                found = await connection.fetch(statement)
            return found
        finally:
            await connection.close()

    return asyncio.run(run())


class Peaks:
    """Watches how many connections a server has at most, through the pooler and besides."""

    def __init__(self, url: str) -> None:
        self.pooled = self.direct = 0
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _watch(self) -> None:
        connection = await asyncpg.connect(self._url)
        count = (
            "select count(*) filter (where usename = $1) as pooled,"
            " count(*) filter (where usename <> $1) as direct from pg_stat_activity"
            " where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        while not self._over.is_set():
            found = await connection.fetchrow(count, ROLE)
            assert found is not None
            self.pooled = max(self.pooled, found["pooled"])
            self.direct = max(self.direct, found["direct"])
            await asyncio.sleep(0.05)
        await connection.close()


def test_writing_instances_share_the_few_connections_of_a_pooler(
    tmp_path: Path,
    postgres_server: PrivatePostgres,
    broker_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = postgres_server.url
    ask(url, f"create role {ROLE} superuser login", "create table noted (number int)")
    with (
        PrivatePgBouncer(url, POOL) as pooler,
        Peaks(url) as peaks,
        Many(tmp_path, url, broker_url, monkeypatch, ROLEKIT_POOLER=pooler.url) as fleet,
    ):
        began = time.monotonic()
        fleet.scale("Writer", COUNT, UP_S)
        ready_s = time.monotonic() - began
        pids = set(fleet.pids("Writer"))
        while not pids <= {pid for pid, _ in fleet.handled()}:
            fleet.send(COUNT, "Note")
            eventually(lambda: len(fleet.numbers()) == fleet.sent, UP_S)
        wrote_s = time.monotonic() - began - ready_s
        sent = fleet.sent

    rows = ask(url, "select number from noted")
    print(  # noqa: T201 - what is measured
        f"{COUNT}: ready {ready_s:.1f} s, {sent} written in {wrote_s:.1f} s; "
        f"at most {peaks.pooled} connections through the pooler, {peaks.direct} besides"
    )
    assert sorted(row["number"] for row in rows) == list(range(sent))
    assert 0 < peaks.pooled <= POOL
    assert peaks.direct <= DIRECT


def test_an_instance_that_writes_has_a_connection_until_it_is_idle(
    tmp_path: Path,
    postgres_server: PrivatePostgres,
    broker_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def held(pid: int) -> int:
        found = psutil.Process(pid).net_connections("tcp")
        return sum(bool(one.raddr) and one.raddr.port == postgres_server.port for one in found)

    ask(postgres_server.url, "create table noted (number int)")
    where = tmp_path, postgres_server.url, broker_url, monkeypatch
    with Many(*where, IDLE_S=str(IDLE_S)) as fleet:
        fleet.scale("Writer", 1, UP_S)
        pid = fleet.pids("Writer")[0]

        at_first = held(pid)
        fleet.send(1, "Note")
        eventually(lambda: held(pid) == 1)
        eventually(lambda: held(pid) == 0)
        at_last = fleet.pids("Writer")

    assert at_first == 0
    assert at_last == [pid]
    assert len(ask(postgres_server.url, "select number from noted")) == 1
