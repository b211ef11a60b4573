"""`rolekit up` of an app with keys: who owns which partition, and what took effect."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import httpx
import msgspec

from rolekit.config import Config
from rolekit.supervisor.status import FleetStatus
from rolekit.wiring import open_client
from tests.patience import patient
from tests.process.keyed_app import TABLE, app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from rolekit.flow.app_client import AppClient

# Its drivers are read from disk, which must not happen while a loop runs.
importlib.import_module("rolekit.transport.rabbitmq")

ROOT = Path(__file__).parents[2]
SCHEMA = "rolekit_keyed"
READY_S = patient(30.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What took effect, compared with what was sent; each number should be 0."""

    lost: int
    repeated: int
    out_of_order: int


class KeyedFleet:
    """A supervisor of the app, and a look into its database.

    Args:
        home: Folder for log and control socket.
        database: URL.
        broker: URL, or empty.
        looking: Connection to the database.
    """

    def __init__(
        self, home: Path, database: str, broker: str, looking: asyncpg.Connection
    ) -> None:
        self.config = Config(
            app="tests.process.keyed_app:app", database=database, broker=broker
        )
        self._home = home
        self._looking = looking
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(home / "keyed.sock")),
            base_url="http://rolekit",
            timeout=patient(5),
        )

    # -- the fleet ---------------------------------------------------------------------------

    def start(self, instances: int) -> None:
        """Start a supervisor; it is not ready when this returns."""
        with (self._home / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rolekit", "up"],
                cwd=ROOT,
                env={
                    **{k: v for k, v in os.environ.items() if not k.startswith("ROLEKIT_")},
                    "ROLEKIT_APP": self.config.app,
                    "ROLEKIT_HOME": str(self._home),
                    "ROLEKIT_DATABASE": self.config.database,
                    "ROLEKIT_BROKER": self.config.broker,
                    "ROLEKIT_LEDGER__INSTANCES": str(instances),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def kill(self) -> None:
        """Kill the supervisor, and with it the host: no instance outlives it."""
        if self._process is not None:
            self._process.kill()  # its own child, not reaped yet: the pid cannot be another's
            await asyncio.to_thread(self._process.wait)

    async def stop(self) -> None:
        """End it with all its instances."""
        await self._http.aclose()
        if self._process is not None:
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, 20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self._home / "up.log").read_text(encoding="utf-8", errors="replace")

    async def status(self) -> FleetStatus | None:
        """Ask what `rolekit ps --json` prints; None while nobody answers."""
        with contextlib.suppress(httpx.TransportError, msgspec.MsgspecError):
            answer = await self._http.get("/ps")
            return msgspec.json.decode(answer.content, type=FleetStatus)
        return None

    async def pids(self) -> list[int]:
        """List the processes of the role's instances that are ready."""
        status = await self.status()
        if status is None:
            return []
        places = status.roles[0].places
        return [one.pid for one in places if one.pid is not None and one.state == "ready"]

    async def filled(self, instances: int, within_s: float = READY_S) -> None:
        """Wait until so many instances are ready."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while len(await self.pids()) < instances:
            assert loop.time() < until, f"{await self.status()}\n{self.log[-3000:]}"
            await asyncio.sleep(0.05)

    async def scale(self, instances: int) -> None:
        """Tell it how many instances there should be."""
        order = {"role": "Ledger", "count": str(instances)}
        answer = await self._http.post("/scale", json=order)
        answer.raise_for_status()

    async def signal(self, pid: int, number: signal.Signals) -> None:
        """Signal an instance, named by the supervisor a moment ago."""
        held = os.pidfd_open(pid)
        try:
            if pid in await self.pids():
                signal.pidfd_send_signal(held, number)
        finally:
            os.close(held)

    # -- what the database says --------------------------------------------------------------

    async def owners(self) -> dict[int, int]:
        """Count the partitions of each owner; 0 is nobody."""
        async with self._turn:
            return await self._owners()

    async def _owners(self) -> dict[int, int]:
        found = await self._looking.fetch(
            f"select coalesce(owner, 0) as owner from {SCHEMA}.partition"  # noqa: S608 - ours
        )
        return dict(Counter(int(row["owner"]) for row in found))

    async def even(self, instances: int, within_s: float = READY_S) -> float:
        """Wait until so many own as many partitions each; return how long that took."""

        def is_even(owners: dict[int, int]) -> bool:
            sizes = [count for owner, count in owners.items() if owner]
            return 0 not in owners and len(sizes) == instances and max(sizes) - min(sizes) <= 1

        return await self._until_owners(is_even, within_s)

    async def without(self, owner: int, within_s: float = READY_S) -> float:
        """Wait until others own everything; return how long that took."""
        return await self._until_owners(
            lambda owners: owner not in owners and 0 not in owners, within_s
        )

    async def _until_owners(
        self, is_so: Callable[[dict[int, int]], bool], within_s: float
    ) -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        owners: dict[int, int] = {}
        while loop.time() - begun < within_s:
            with contextlib.suppress(asyncpg.UndefinedTableError):
                owners = await self.owners()
                if owners and is_so(owners):
                    return loop.time() - begun
            await asyncio.sleep(0.02)
        raise AssertionError(f"not so within {within_s} s, but {owners}\n{self.log[:3000]}")

    async def owner_of(self, queue: str) -> int:
        """Say who owns the partition of a queue."""
        number = int(queue.rpartition("~k")[2])
        owner: int = await self._looking.fetchval(
            f"select owner from {SCHEMA}.partition where n = $1",  # noqa: S608 - ours
            number,
        )
        return owner

    async def count(self) -> int:
        """Say how many entries were written."""
        async with self._turn:
            found: int = await self._looking.fetchval("select count(*) from done")
        return found

    async def done(self, count: int, within_s: float) -> None:
        """Wait until so many entries were written, or none is for a while."""
        loop = asyncio.get_running_loop()
        until, last = loop.time() + patient(within_s), -1
        while loop.time() < until:
            found = await self.count()
            if found >= count:
                return
            if found != last:
                last, until = found, loop.time() + patient(within_s)
            await asyncio.sleep(0.05)

    async def verdict(self, sent: dict[str, int]) -> Verdict:
        """Compare what took effect with what was sent: so many entries of each key."""
        found = await self._looking.fetch("select who, n from done order by at")
        got: dict[str, list[int]] = {who: [] for who in sent}
        for row in found:
            got[row["who"]].append(row["n"])
        lost = sum(len(set(range(count)) - set(got[who])) for who, count in sent.items())
        repeated = sum(len(numbers) - len(set(numbers)) for numbers in got.values())
        wrong = sum(
            after < before for numbers in got.values() for before, after in pairwise(numbers)
        )
        return Verdict(lost, repeated, wrong)

    async def rows(self) -> list[tuple[str, int, int]]:
        """List key, number and process of what took effect, in order."""
        found = await self._looking.fetch("select who, n, pid from done order by at")
        return [(row["who"], row["n"], row["pid"]) for row in found]


@asynccontextmanager
async def keyed_fleet(
    home: Path, database: str, broker: str, instances: int
) -> AsyncGenerator[tuple[KeyedFleet, AppClient]]:
    """Run the app in a fleet, and send into it."""
    async with keyed_hosts(home, database, broker, 1, instances) as (hosts, client):
        yield hosts[0], client


@asynccontextmanager
async def keyed_hosts(
    home: Path, database: str, broker: str, count: int, instances: int
) -> AsyncGenerator[tuple[list[KeyedFleet], AppClient]]:
    """Run the app on so many hosts, so many instances on each, and send into it."""
    looking = await asyncpg.connect(database)
    hosts: list[KeyedFleet] = []
    try:
        await looking.execute(TABLE)
        for number in range(count):
            folder = home / f"host-{number}"
            folder.mkdir()
            hosts.append(KeyedFleet(folder, database, broker, looking))
            hosts[-1].start(instances)
        await hosts[0].even(count * instances)
        async with open_client(app, hosts[0].config) as client:
            yield hosts, client
    finally:
        await asyncio.gather(*(host.stop() for host in hosts))
        await looking.close()
