"""Requests that come at the same moment: one commit takes them all in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import KeyReused
from rolekit.store.memory import MemoryStore
from rolekit.transport.memory import MemoryTransport
from tests.unit.fakes_flow import services_of
from tests.unit.shop import Order, shop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.flow.app_client import AppClient
    from rolekit.model.message import Receipt
    from rolekit.store.base import Accept, Commit, KeyRow

pytestmark = pytest.mark.anyio


class Slow(MemoryStore):
    """Commits when it may, and notes how many requests each commit took in."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.commits: list[int] = []

    async def accept_all(
        self, requests: Sequence[Accept]
    ) -> tuple[Commit, list[KeyRow | None]]:
        self.commits.append(len(requests))
        await self.may.wait()
        return await super().accept_all(requests)

    def taken(self) -> int:
        return len(self.tables.outbox)


async def ground() -> tuple[Slow, AppClient]:
    transport, store = MemoryTransport(), Slow()
    await transport.declare(["Work.work"])
    return store, services_of(shop.plan(), transport=transport, store=store).client


async def sending(client: AppClient, *keys: str) -> list[asyncio.Task[Receipt]]:
    tasks = [
        asyncio.create_task(client.send(Order(n=n), idempotency_key=key))
        for n, key in enumerate(keys)
    ]
    await asyncio.sleep(0.01)
    return tasks


async def test_what_comes_during_a_commit_goes_with_the_next() -> None:
    store, client = await ground()
    tasks = await sending(client, "first")
    tasks += await sending(client, "second")
    tasks += await sending(client, *(f"more {n}" for n in range(20)))

    store.may.set()
    receipts = await asyncio.gather(*tasks)

    assert store.commits == [1, 1, 20]
    assert len({receipt.id for receipt in receipts}) == 22
    assert store.taken() == 22


async def test_a_key_that_comes_twice_at_once_is_taken_once_and_checked() -> None:
    store, client = await ground()
    tasks = await sending(client, "a", "b")
    tasks += await sending(client, "c")
    tasks += [asyncio.create_task(client.send(Order(n=0), idempotency_key="c"))]
    tasks += [asyncio.create_task(client.send(Order(n=5), idempotency_key="c"))]
    await asyncio.sleep(0.01)

    store.may.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert results[2] == results[3]
    assert isinstance(results[4], KeyReused)
    assert store.taken() == 3


async def test_who_leaves_takes_nobody_along() -> None:
    store, client = await ground()
    (leads,) = await sending(client, "first")
    (_, waits) = await sending(client, "second", "third")

    leads.cancel()
    await asyncio.sleep(0.01)
    store.may.set()
    await waits

    assert store.taken() == 3
