"""Order by key, in a whole app in one loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from rolekit.store.base import Commit
from rolekit.store.memory import MemoryStore
from rolekit.testing import run_app
from tests.patience import patient
from tests.unit import keyed_programs
from tests.unit.keyed_programs import Accounts, Ask, Faults, Put, Skip, Sum, Take, bank

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rolekit.flow.keyed.consumer import KeyedConsumer
    from rolekit.roles.host import Instance
    from rolekit.store.base import Step, Store
    from rolekit.testing.running import Running
    from rolekit.transport.memory import Faults as BrokerFaults

pytestmark = pytest.mark.anyio

WHO = ["ada", "bob", "cy", "di", "eve"]


def in_order(count: int) -> dict[str, list[int]]:
    """Say what each key should have done."""
    return {who: list(range(count)) for who in WHO}


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    fresh = Faults()
    monkeypatch.setattr(keyed_programs, "faults", fresh)
    return fresh


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    return "memory" if request.param == "memory" else prepared(request)


@pytest.fixture
def real_database(request: pytest.FixtureRequest) -> str:
    return prepared(request)


def prepared(request: pytest.FixtureRequest) -> str:
    """Make the table that the handlers write to."""

    async def prepare() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("create table done (at bigserial, who text, n int)")
        await connection.close()

    url: str = request.getfixturevalue("rolekit_database")
    asyncio.run(prepare())
    return url


def behind(running: Running) -> tuple[Store, Callable[[Commit], None]]:
    """Return what an operator's commands work on: the store, and how outputs leave."""
    store, relay = running._store, running._relay  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return store, relay._tell  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def instance_of(running: Running) -> tuple[Instance, KeyedConsumer]:
    """Return the instance of the role, and what consumes its partitions."""
    life = running._life(Accounts)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    assert life.instance is not None
    assert life.instance.keyed is not None
    return life.instance, life.instance.keyed


async def test_each_key_is_in_order_one_by_one_and_keys_run_beside_one_another(
    faults: Faults, database: str
) -> None:
    async with run_app(bank, database=database) as running:
        await running.client.send_many([Put(who=who, n=n) for n in range(20) for who in WHO])
        await running.idle(timeout_s=15)
        total = await running.client.ask(Ask(who="ada"), Sum)

    assert {who: faults.of(who) for who in WHO} == in_order(20)
    assert faults.most_of_one == 1
    assert faults.most > 1
    assert total == Sum(total=sum(range(20)))


async def test_handlers_of_one_role_share_their_keys(faults: Faults) -> None:
    async with run_app(bank) as running:
        for n in range(0, 20, 2):
            await running.client.send(Put(who="ada", n=n))
            await running.client.send(Take(who="ada", n=n + 1))
        await running.idle()

    assert faults.of("ada") == list(range(20))
    assert faults.most_of_one == 1


async def test_a_message_that_fails_holds_up_its_key_only(
    faults: Faults, database: str
) -> None:
    faults.failing["ada", 1] = 2
    async with run_app(bank, database=database) as running:
        await running.client.send_many([Put(who=who, n=n) for n in range(60) for who in WHO])
        await running.idle(timeout_s=15)
        early = {who: faults.of(who) for who in WHO}
        await running.client.send(Put(who="ada", n=60))
        await running.advance(30)

    assert early == {**in_order(60), "ada": [0]}
    assert faults.of("ada") == list(range(61))


async def test_a_dead_letter_holds_its_key_until_it_is_replayed(
    faults: Faults, database: str
) -> None:
    faults.rejected.add(("ada", 1))
    async with run_app(bank, database=database) as running:
        await running.client.send_many([Put(who="ada", n=n) for n in range(5)])
        await running.advance(3600)
        early = faults.of("ada")
        faults.rejected.clear()
        store, tell = behind(running)
        tell(await store.replay([running.dead[0].id], force=False))
        await running.idle()

    assert early == [0]
    assert faults.of("ada") == [0, 1, 2, 3, 4]


async def test_a_dead_letter_holds_its_key_until_it_is_dropped(
    faults: Faults, database: str
) -> None:
    faults.rejected.add(("ada", 1))
    async with run_app(bank, database=database) as running:
        await running.client.send_many([Put(who="ada", n=n) for n in range(5)])
        await running.idle()
        early = faults.of("ada")
        store, tell = behind(running)
        await store.drop([running.dead[0].id])
        tell(Commit(leaving=await store.unsent([], 10) or await store.adopt(10)))
        await running.idle()

    assert early == [0]
    assert faults.of("ada") == [0, 2, 3, 4]


async def test_with_skip_a_dead_letter_lets_its_key_go_on(
    faults: Faults, database: str
) -> None:
    faults.failing["ada", 1] = 9
    async with run_app(bank, database=database) as running:
        await running.client.send_many([Skip(who="ada", n=n) for n in range(5)])
        await running.idle()
        early = faults.of("ada")
        await running.advance(30)

    assert early == [0]
    assert faults.of("ada") == [0, 2, 3, 4]
    assert len(running.dead) == 1


async def test_while_steps_are_committed_those_of_other_keys_run(
    faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, may_commit, sizes = MemoryStore.commit, asyncio.Event(), list[int]()

    async def commit_later(store: MemoryStore, steps: Sequence[Step]) -> Commit:
        await may_commit.wait()
        sizes.append(len(steps))
        return await commit(store, steps)

    async with run_app(bank) as running:
        monkeypatch.setattr(MemoryStore, "commit", commit_later)
        await running.client.send_many(
            [Take(who=f"k{key}", n=n) for n in range(2) for key in range(40)]
        )
        try:
            async with asyncio.timeout(patient(10)):
                while len(faults.done) < 40:  # noqa: ASYNC110 - a handler tells
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0)
            before = len(faults.done)
        finally:
            may_commit.set()
        await running.idle()

    assert before == 40, "the next one of a key begins after the commit of the one before"
    assert faults.most <= 8, "concurrency"
    assert max(sizes) > 8
    assert len(faults.done) == 80


@pytest.mark.parametrize("kind", ["none", "repeat", "shuffle"])
@pytest.mark.parametrize("seed", range(4))
async def test_kills_and_repeats_change_no_order_and_do_nothing_twice(
    faults: Faults, kind: BrokerFaults, seed: int
) -> None:
    faults.failing["bob", 2] = 1
    async with run_app(bank, faults=kind, seed=seed) as running:
        for n in range(12):
            await running.client.send_many([Put(who=who, n=n) for who in WHO])
            if n in (2, 5, 8):
                await running.kill(Accounts)
        await running.advance(60)

    done = [args for _, args in running.writes]
    assert {who: [n for w, n in done if w == who] for who in WHO} == in_order(12)
    assert running.dead == []


async def test_a_kill_on_a_database_changes_no_order_either(
    faults: Faults, real_database: str
) -> None:
    faults.failing["bob", 2] = 1
    async with run_app(bank, database=real_database, faults="repeat") as running:
        for n in range(9):
            await running.client.send_many([Put(who=who, n=n) for who in WHO])
            if n in (2, 5):
                await running.kill(Accounts)
        await running.advance(60)
    connection = await asyncpg.connect(real_database)
    rows = await connection.fetch("select who, n from done order by at")
    await connection.close()

    found = [(row["who"], row["n"]) for row in rows]
    assert {who: [n for w, n in found if w == who] for who in WHO} == in_order(9)


async def test_a_paused_role_begins_nothing_and_goes_on_where_it_was(faults: Faults) -> None:
    faults.gate = asyncio.Event()
    async with run_app(bank) as running:
        await running.client.send_many([Put(who="ada", n=n) for n in range(3)])
        instance, keyed = instance_of(running)
        while not faults.running.get("ada"):  # noqa: ASYNC110 - a handler tells
            await asyncio.sleep(0)
        instance.pause(paused=True)
        faults.gate.set()
        while keyed.shares.held:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)
        early = faults.of("ada")
        instance.pause(paused=False)
        while len(faults.of("ada")) < 3:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.01)

    assert early == [0]
    assert faults.of("ada") == [0, 1, 2]
