"""A supervisor of 1,000 instances of 50 roles that are made up, with the real control API.

What processes use is read as it is for real ones, from this one again and again.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from rolekit.supervisor.control_server import serve
from rolekit.supervisor.usage import FleetUsage, used_by
from tests.browser.board import MadeUpFleet
from tests.unit.fakes_fleet import FakeFleet

if TYPE_CHECKING:
    from rolekit.supervisor.control import Controlled
    from rolekit.supervisor.status import FleetStatus


class Supervisor(FakeFleet):
    """Answers as one whose instances are all at work."""

    def __init__(self) -> None:
        super().__init__()
        self._fleet = MadeUpFleet()

    async def status(self) -> FleetStatus:
        return msgspec.structs.replace(self._fleet.status(), pid=os.getpid())

    async def usage(self) -> FleetUsage:
        status = await self.status()
        return msgspec.structs.replace(await asyncio.to_thread(_used, status), status=status)


def _used(status: FleetStatus) -> FleetUsage:
    mine = os.getpid()
    roles = tuple(
        msgspec.structs.replace(
            role,
            places=tuple(msgspec.structs.replace(place, pid=mine) for place in role.places),
        )
        for role in status.roles
    )
    found = used_by(msgspec.structs.replace(status, roles=roles))
    pids = [place.pid or 0 for role in status.roles for place in role.places]
    processes = tuple(
        msgspec.structs.replace(one, pid=pid)
        for one, pid in zip(found.processes, pids, strict=True)
    )
    return msgspec.structs.replace(found, processes=processes)


async def main(path: Path) -> None:
    """Answer at a path until killed."""
    async with serve(path, cast("Controlled", Supervisor())):
        print("answers", flush=True)  # noqa: T201 - whoever started it waits for that
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
