"""What is stopped, or cut off, holds nobody up; what it does late changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest
from anyio.from_thread import start_blocking_portal

from rolekit.testing.faults import Proxy
from tests.patience import patient
from tests.process.many import Many
from tests.process.short_leases import LEASE_S
from tests.process.supervised import eventually

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from tests.servers import PrivatePostgres

pytestmark = [pytest.mark.servers, pytest.mark.faults, pytest.mark.timeout(180)]

SOON_S = 40.0
SHORT = ("tests.process.short_leases", "up")
MANY = 200
LONG_S = 60.0


def noted(url: str, number: int | None = None) -> list[int]:
    """Read which numbers have a row, or how often one has, sorted."""

    async def read() -> list[int]:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch("select number from noted order by number")
            return [row["number"] for row in rows]
        finally:
            await connection.close()

    return [one for one in asyncio.run(read()) if number in (None, one)]


def prepare(url: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("create table noted (number int)")
        await connection.close()

    asyncio.run(run())


@contextmanager
def stopped(pids: Sequence[int]) -> Generator[None]:
    """Stop processes inside the block, as a debugger does, or a machine that sleeps."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def holds(fleet: Many) -> int:
    """Wait until the holder has begun with the first message; return its process."""
    fleet.scale("Holder", 1, SOON_S)
    fleet.send(1, "Hold")
    eventually(lambda: 0 in fleet.numbers(), SOON_S)
    return next(pid for pid, number in fleet.handled() if number == 0)


def test_what_a_stopped_host_held_is_done_elsewhere_and_its_late_commit_changes_nothing(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(database_url)
    homes = [tmp_path / name for name in ("here", "there")]
    for home in homes:
        home.mkdir()
    with Many(homes[0], database_url, "", monkeypatch, command=SHORT) as here:
        here.scale("Writer", 3, SOON_S)
        holder = holds(here)
        siblings = here.pids("Writer")
        with Many(homes[1], database_url, "", monkeypatch, command=SHORT) as there:
            there.go.touch()

            with stopped([here.process.pid, holder]):
                there.scale("Holder", 1, SOON_S)
                eventually(lambda: 0 in noted(database_url), SOON_S)
                here.go.touch()
            here.send(30, "Note")
            eventually(lambda: set(range(1, 31)) <= set(noted(database_url)), SOON_S)
            eventually(lambda: here.role("Holder").in_hand == 0, SOON_S)

            assert noted(database_url) == list(range(31))
            assert here.pids("Writer") == siblings
            assert here.pids("Holder") == [holder]


def test_a_supervisor_without_its_database_ends_nobody(
    tmp_path: Path, postgres_server: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_server.url
    prepare(url)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Proxy("127.0.0.1", postgres_server.port)) as proxy,
        Many(
            tmp_path, proxy.url(url), "", monkeypatch, command=SHORT, ROLEKIT_POOLER=url
        ) as fleet,
    ):
        monkeypatch.setenv("ROLEKIT_DATABASE", url)  # of who sends: not through the proxy
        monkeypatch.delenv("ROLEKIT_POOLER")
        fleet.scale("Writer", 3, SOON_S)
        holder = holds(fleet)
        siblings = fleet.pids("Writer")

        portal.call(setattr, proxy, "is_refusing", 1)
        portal.call(proxy.cut)
        eventually(lambda: "lease lost" in fleet.log, LEASE_S + SOON_S)
        fleet.go.touch()
        eventually(lambda: 0 in noted(url), SOON_S)  # what is in hand is finished all the same
        fleet.send(30, "Note")
        portal.call(proxy.heal)
        eventually(lambda: len(noted(url)) == 31, SOON_S)

        assert noted(url) == list(range(31))
        assert fleet.pids("Writer") == siblings
        assert fleet.pids("Holder") == [holder]


@pytest.mark.load
@pytest.mark.timeout(600)
def test_nobody_of_many_notices_that_one_was_stopped_for_long(
    tmp_path: Path, database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(database_url)
    with Many(tmp_path, database_url, broker_url, monkeypatch) as fleet:
        fleet.scale("W", MANY, 120)
        victim = holds(fleet)
        siblings = fleet.pids("W")
        sender = fleet.sending(1800, 15)

        os.kill(victim, signal.SIGSTOP)
        eventually(lambda: {pid for pid, n in fleet.handled() if n == 0} > {victim}, 2 * LONG_S)
        fleet.go.touch()
        with stopped([fleet.process.pid]):
            time.sleep(LONG_S)  # as long as is promised
        assert sender.wait(patient(240)) == 0
        eventually(lambda: fleet.numbers() == set(range(fleet.sent)), 2 * LONG_S)

        assert fleet.pids("W") == siblings
        assert noted(database_url) == [0]
