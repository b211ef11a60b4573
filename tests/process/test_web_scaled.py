"""A web role is scaled up and down while HTTP requests come: nobody notices."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.patience import patient
from tests.process.rolling_load import Load, RollFleet, make_table, until_done

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(180)]

CHANGES = (4, 1, 4, 1, 4, 1)
BETWEEN = 40
"""Requests are answered between two changes, so each change meets some."""


async def test_scaling_a_web_role_refuses_and_drops_no_request(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    fleet = RollFleet(tmp_path / "home", database_url, broker_url, clerk=2, desk=2)
    load = Load(per_s=80, orders=40)
    await make_table(database_url)
    enough = asyncio.Event()

    with fleet.running() as address:
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(address, enough))
            for desks in CHANGES:
                await answered(load, BETWEEN)
                code, said = await fleet.command("scale", f"Desk={desks}")
                assert code == 0, said
                await come_to(fleet, desks)
            await answered(load, BETWEEN)
            enough.set()
        effects = await until_done(database_url, load)

    assert load.failed == []
    assert effects.lost == []
    assert effects.repeated == []


async def answered(load: Load, more: int) -> None:
    """Wait until so many more requests are answered."""
    until_s, wanted = time.monotonic() + patient(30), len(load.times) + more
    while len(load.times) < wanted:
        assert time.monotonic() < until_s
        await asyncio.sleep(0.02)


async def come_to(fleet: RollFleet, desks: int) -> None:
    """Wait until so many desks are ready, and no other runs."""
    until_s = time.monotonic() + patient(30)
    while True:
        desk = await fleet.role("Desk")
        if desk.ready == desk.running == desks:
            return
        assert time.monotonic() < until_s, desk
        await asyncio.sleep(0.05)
