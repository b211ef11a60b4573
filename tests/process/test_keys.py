"""Keys in a fleet of processes: shares, order under kills, and never two writers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

from rolekit.model.keys import partition_of, partition_queue
from tests.patience import PATIENCE, patient
from tests.process.keyed_app import Put
from tests.process.keyed_fleet import Verdict, keyed_fleet, keyed_hosts

if TYPE_CHECKING:
    from pathlib import Path

    from rolekit.flow.app_client import AppClient
    from tests.process.keyed_fleet import KeyedFleet

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults]

KILLS = int(os.environ.get("ROLEKIT_KEYS_KILLS", "4"))
KEYS = int(os.environ.get("ROLEKIT_KEYS", "60"))
HOSTS = int(os.environ.get("ROLEKIT_KEYS_HOSTS", "3"))
HOST_KILLS = int(os.environ.get("ROLEKIT_KEYS_HOST_KILLS", "1"))
"""Of whole hosts; for each, as many instances of hosts that live are killed besides."""
PER_HOST = 2
EVERY_S = 0.7
MOVED_S = patient(5.0)
SLOW = 9
"""Entries of a key whose owner stands still at one of them."""
UNDER_WAY = 2000
"""Entries sent and not handled, at most: so many that a kill finds something in hand."""
LEAST = 20
"""Entries of each key, at least; more are sent as long as there are kills."""


@pytest.mark.timeout(120)
async def test_shares_are_even_soon_after_each_change(
    tmp_path: Path, rolekit_database: str, broker: str
) -> None:
    took: dict[str, float] = {}
    async with keyed_fleet(tmp_path, rolekit_database, broker, 1) as (fleet, client):
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(keep_sending(fleet, client, 40, enough))
            for name, instances in (("1 to 4", 4), ("4 to 2", 2), ("2 to 4", 4)):
                await fleet.scale(instances)
                took[name] = await fleet.even(instances)
            victim = (await fleet.pids())[0]
            before = set(await fleet.owners())
            await fleet.signal(victim, signal.SIGKILL)
            while set(await fleet.owners()) == before:  # noqa: ASYNC110 - a table tells nobody
                await asyncio.sleep(0.01)
            took["kill -9"] = await fleet.even(4)
            owners = await fleet.owners()
            enough.set()
        sent = sending.result()
        await fleet.done(sum(sent.values()), 20)
        verdict = await fleet.verdict(sent)
        log = fleet.log

    print({name: round(s, 2) for name, s in took.items()}, owners)  # noqa: T201 - measured
    assert verdict == Verdict(0, 0, 0)
    assert sorted(owners.values()) == [4, 4, 4, 4]
    assert max(took.values()) <= MOVED_S
    assert "Traceback" not in log


@pytest.mark.timeout(60 + 10 * KILLS)
async def test_order_holds_when_owners_are_killed(
    tmp_path: Path, rolekit_database: str, broker: str
) -> None:
    chance = random.Random(1)  # noqa: S311 - the same victims wanted again
    killed = 0
    async with keyed_fleet(tmp_path, rolekit_database, broker, 4) as (fleet, client):
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(keep_sending(fleet, client, KEYS, enough))
            while killed < KILLS:
                await asyncio.sleep(EVERY_S)
                ready = await fleet.pids()
                if len(ready) > 1:  # so that what is killed had something in hand
                    await fleet.signal(chance.choice(ready), signal.SIGKILL)
                    killed += 1
            enough.set()
        sent = sending.result()
        await fleet.done(sum(sent.values()), 30)
        verdict = await fleet.verdict(sent)

    print(f"{killed} kills, {sum(sent.values())} entries of {len(sent)} keys: {verdict}")  # noqa: T201
    assert verdict == Verdict(0, 0, 0)


@pytest.mark.load
@pytest.mark.timeout(60 + 20 * HOST_KILLS)
async def test_order_holds_when_hosts_are_killed(
    tmp_path: Path, rolekit_database: str, broker: str
) -> None:
    chance = random.Random(2)  # noqa: S311 - the same victims wanted again
    killed = instances = 0
    running = keyed_hosts(tmp_path, rolekit_database, broker, HOSTS, PER_HOST)
    async with running as (hosts, client):
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(keep_sending(hosts[0], client, KEYS, enough))
            while killed < HOST_KILLS:
                await asyncio.sleep(EVERY_S)
                host = chance.choice(hosts)
                await host.kill()
                killed += 1
                await asyncio.sleep(EVERY_S)
                other = chance.choice([one for one in hosts if one is not host])
                if ready := await other.pids():
                    await other.signal(chance.choice(ready), signal.SIGKILL)
                    instances += 1
                host.start(PER_HOST)
                await host.filled(PER_HOST)
            enough.set()
        sent = sending.result()
        await hosts[0].done(sum(sent.values()), 30)
        verdict = await hosts[0].verdict(sent)
        pids = {pid for _, _, pid in await hosts[0].rows()}

    print(  # noqa: T201 - measured
        f"{killed} of {HOSTS} hosts and {instances} instances killed, "
        f"{sum(sent.values())} entries of {len(sent)} keys, {len(pids)} processes: {verdict}"
    )
    assert verdict == Verdict(0, 0, 0)
    assert len(pids) > HOSTS * PER_HOST, "those that came back took part"


@pytest.mark.timeout(60)
async def test_an_owner_that_stood_still_writes_nothing_when_it_goes_on(
    tmp_path: Path, rolekit_database: str, broker: str
) -> None:
    queue = partition_queue("Ledger", partition_of("slow", 16))
    async with keyed_fleet(tmp_path, rolekit_database, broker, 2) as (fleet, client):
        await client.send(Put(who="slow", n=0))
        await fleet.done(1, 10)
        stopped = (await fleet.rows())[0][2]
        owner = await fleet.owner_of(queue)
        for n in range(1, SLOW):
            await client.send(Put(who="slow", n=n, wait_s=0.5))
        await asyncio.sleep(0.3)  # the first of them is with its handler now, or a later one

        did_go_on = False  # on a slow machine the supervisor may have killed it by then
        await fleet.signal(stopped, signal.SIGSTOP)
        before = len(await fleet.rows())
        moved_s = await fleet.without(owner)
        while_stopped = await fleet.rows()
        until_s = asyncio.get_running_loop().time() + 1.5
        # Not longer than it must be: soon the supervisor kills who is silent.
        while len(while_stopped) <= before and asyncio.get_running_loop().time() < until_s:
            await asyncio.sleep(0.05)
            while_stopped = await fleet.rows()
        with contextlib.suppress(ProcessLookupError):
            os.kill(stopped, signal.SIGCONT)
            did_go_on = True
        await fleet.done(SLOW, 20)
        rows, log = await fleet.rows(), fleet.log

    print(f"moved after {moved_s:.2f} s")  # noqa: T201 - measured
    assert [n for _, n, _ in rows] == list(range(SLOW))
    assert before < SLOW, "it was stopped at work"
    assert moved_s <= MOVED_S
    assert did_go_on or PATIENCE > 1
    assert "another owner" in log or not did_go_on
    if not broker:
        # The new owner need not wait for the old one, whose attempt comes to nothing.
        assert len(while_stopped) > before
        assert rows[before][2] != stopped


async def keep_sending(
    fleet: KeyedFleet, client: AppClient, keys: int, enough: asyncio.Event
) -> dict[str, int]:
    """Send entries of many keys in turn until it is enough; return how many of each."""
    names = [f"key-{number}" for number in range(keys)]
    n = 0
    while n < LEAST or not enough.is_set():
        while n * keys - await fleet.count() > UNDER_WAY:  # noqa: ASYNC110 - a table tells nobody
            await asyncio.sleep(0.1)
        await client.send_many(
            Put(who=who, n=n, wait_s=0.002, fails=int((n + len(who)) % 17 == 0))
            for who in names
        )
        n += 1
    return dict.fromkeys(names, n)
