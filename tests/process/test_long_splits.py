"""Splits and gathers of a million parts take no more memory than those of a thousand.

ROLEKIT_PARTS makes it the run that the figures come from: 1000000.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from examples.mailflow.fleet import ROOT
from tests.patience import patient
from tests.process.killing import MailflowFleet

if TYPE_CHECKING:
    from rolekit.testing.broker import PrivateBroker

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults]

PARTS = int(os.environ.get("ROLEKIT_PARTS", "12000"))
FEW = 1000
FLAT_MIB = 20
SLOWEST_PER_S = 100
LOOK_S = 0.2


class LongFleet(MailflowFleet):
    """`rolekit up` of the app of long splits."""

    def __init__(self, home: Path, database: str, broker: str) -> None:
        settings = {"ROLEKIT_APP": "tests.process.long_app:app"}
        if broker:
            settings["ROLEKIT_BROKER"] = broker
        super().__init__(home, database, settings)
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(home / "long.sock")),
            base_url="http://rolekit",
            timeout=patient(5),
        )

    async def send(self, kind: str, parts: int) -> None:
        """Send an order, and wait until its gather has told of it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.process.long_client", kind, str(parts),
            env=self.home.environment(), cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        answer, _ = await process.communicate()
        told = json.loads(answer)
        total = parts * (parts - 1) // 2
        assert told == {"parts": parts, "total": total, "is_in_order": True}

    async def watch(self, most: dict[str, float]) -> None:
        """Note the most memory that each role's instance had, until cancelled."""
        pids = {one.role: one.pid for one in await self.processes()}
        while True:
            for role, pid in pids.items():
                most[role] = max(most.get(role, 0), _rss_mib(pid))
            await asyncio.sleep(LOOK_S)


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def measured(fleet: LongFleet, kind: str, parts: int) -> tuple[dict[str, float], float]:
    """Send an order; return the most memory of each role, and how many parts a second."""
    most: dict[str, float] = {}
    watching = asyncio.create_task(fleet.watch(most))
    begun = time.monotonic()
    try:
        await fleet.send(kind, parts)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return most, parts / (time.monotonic() - begun)


async def _is_flat(home: Path, database: str, broker: str, kind: str) -> None:
    async with LongFleet(home, database, broker) as fleet:
        for _ in range(2):
            await measured(fleet, kind, FEW)
        few, _ = await measured(fleet, kind, FEW)
        many, rate = await measured(fleet, kind, PARTS)
    grown = {role: round(many[role] - few[role], 1) for role in ("Splitting", "Gathering")}
    print(  # noqa: T201 - the figures, for the log of the run
        f"{kind}, {broker.partition(':')[0] or 'postgres'}: {PARTS} parts, {rate:.0f}/s; "
        f"MiB at {FEW}: {few}, at {PARTS}: {many}"
    )
    assert max(grown.values()) <= FLAT_MIB, grown


@pytest.mark.timeout(60 + PARTS / SLOWEST_PER_S)
@pytest.mark.parametrize("kind", ["Ordered", "Heaped"])
async def test_memory_is_flat_however_many_parts(
    tmp_path: Path, rolekit_database: str, kind: str
) -> None:
    await _is_flat(tmp_path, rolekit_database, "", kind)


@pytest.mark.load
@pytest.mark.timeout(90 + PARTS / SLOWEST_PER_S)
@pytest.mark.parametrize("kind", ["Ordered", "Heaped"])
async def test_memory_is_flat_on_rabbitmq_too(
    tmp_path: Path, rolekit_database: str, private_broker: PrivateBroker, kind: str
) -> None:
    await _is_flat(tmp_path, rolekit_database, private_broker.url(), kind)
