"""A rolling restart to another version while HTTP requests come: nobody notices."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.process.rolling_load import Load, RollFleet, make_table, until_done

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.servers]


async def rolled(
    fleet: RollFleet, load: Load, database: str, *steps: str, before_s: float
) -> tuple[float, float, str]:
    """Restart under load; return the p99 before and meanwhile in seconds, and what was said.

    Args:
        fleet: Of version 1.
        load: Not begun.
        database: Of effects.
        steps: Roles that are restarted first, each alone; then all are.
        before_s: How long the load runs before.
    """
    await make_table(database)
    enough = asyncio.Event()
    with fleet.running() as address:
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(address, enough))
            await asyncio.sleep(before_s)
            begun, said = time.monotonic(), ""
            for step in (*steps, ""):
                role = [step] if step else []
                code, said = await fleet.command("restart", *role, "--to", "roll_app:new")
                assert code == 0, said
            ended = time.monotonic()
            await asyncio.sleep(before_s / 2)
            enough.set()
        effects = await until_done(database, load)
    assert load.failed == []
    assert effects.lost == []
    assert effects.repeated == []
    assert effects.dead == 0
    assert effects.by_version.keys() == {1, 2}
    return load.p99(begun - before_s / 2, begun), load.p99(begun, ended), said


@pytest.mark.timeout(240)
async def test_a_roll_fails_no_request_and_loses_and_repeats_nothing(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    fleet = RollFleet(tmp_path / "home", database_url, broker_url, clerk=4, desk=2)
    load = Load(per_s=30, orders=5)

    # The desk alone: it sends what the clerks do not know yet.
    *_, said = await rolled(fleet, load, database_url, "Desk", before_s=2)

    assert "Clerk: 4 of 4 run version 3." in said
    assert "No message of this app is called 'roll.express'" in fleet.log
    assert len(load.pids) >= 3  # old and new ones


@pytest.mark.load
@pytest.mark.timeout(240)
async def test_a_roll_of_twenty_instances_slows_requests_threefold_at_most(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    fleet = RollFleet(tmp_path / "home", database_url, broker_url)  # 16 clerks, 4 desks
    load = Load(per_s=100, orders=5)

    before_s, meanwhile_s, _ = await rolled(fleet, load, database_url, before_s=10)

    print(f"p99 of HTTP {before_s * 1e3:.1f} ms before, {meanwhile_s * 1e3:.1f} ms meanwhile")  # noqa: T201 - measured
    assert meanwhile_s <= 3 * before_s
