"""A host's lease: kept by renewing it, and told to be lost before others take over."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING

from rolekit.store.lease import AWAY_S, LEASE_S, RENEW_S, Lease
from tests.property.jumping import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LONG_S = 100.0
AWAY_FROM_S, BACK_AT_S = 20.0, 60.0


async def fails() -> None:
    raise OSError("no route")


async def hangs() -> None:
    await asyncio.sleep(1000)


async def refuses_then_hangs() -> None:
    if asyncio.get_running_loop().time() >= AWAY_FROM_S + 5:
        await hangs()
    await fails()


def lived(away: Callable[[], Awaitable[None]]) -> tuple[list[tuple[float, bool]], list[float]]:
    """Keep a lease in a server that is away for a while; tell the changes, and the renewals."""
    changes: list[tuple[float, bool]] = []
    renewals: list[float] = []

    async def renew() -> None:
        now = asyncio.get_running_loop().time()
        if AWAY_FROM_S <= now < BACK_AT_S:
            await away()
        renewals.append(now)

    async def after() -> None:
        pass

    async def live() -> None:
        lease = Lease(renew, after)

        async def note() -> None:
            async for held in lease.changes():
                at = asyncio.get_running_loop().time()
                changes.append((at, held))

        tasks = [asyncio.create_task(lease.keep()), asyncio.create_task(note())]
        await asyncio.sleep(LONG_S)
        for task in tasks:
            task.cancel()

    run(live())
    return changes, renewals


def test_it_is_told_to_be_lost_before_it_runs_out_and_held_again_soon_after() -> None:
    for away in (fails, hangs, refuses_then_hangs):
        changes, renewals = lived(away)

        last = max(at for at in renewals if at < AWAY_FROM_S)
        assert [held for _, held in changes] == [True, False, True]
        assert last + LEASE_S - RENEW_S <= changes[1][0] <= last + LEASE_S - RENEW_S + AWAY_S
        assert BACK_AT_S <= changes[2][0] <= BACK_AT_S + RENEW_S * 2 + AWAY_S


def test_it_is_renewed_long_before_it_runs_out() -> None:
    _, renewals = lived(fails)

    first = [at for at in renewals if at < AWAY_FROM_S]
    assert all(0 < b - a <= RENEW_S for a, b in pairwise(first))
