"""HTTP requests at a steady rate while an app is restarted: what they met, what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import asyncpg

from rolekit.cli.client import Control
from tests.patience import patient
from tests.process.supervised import eventually

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from rolekit.supervisor.status import RoleStatus

HERE = Path(__file__).parent
PATIENCE_S = patient(30)
OK = 200


class RollFleet:
    """`rolekit up roll_app:app`, as a process."""

    def __init__(self, home: Path, database: str, broker: str, **instances: int) -> None:
        self._home = home
        self._log = home / "log"
        self.env = {
            **os.environ,
            "PYTHONPATH": f"{HERE.parent.parent}:{HERE}",
            "ROLEKIT_HOME": str(home),
            "ROLEKIT_DATABASE": database,
            **({"ROLEKIT_BROKER": broker} if broker else {}),
            **{f"ROLEKIT_{role.upper()}__INSTANCES": str(n) for role, n in instances.items()},
        }

    @contextlib.contextmanager
    def running(self) -> Generator[str]:
        """Run it inside; gives its address."""
        self._home.mkdir(exist_ok=True)
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "rolekit", "up", "roll_app:app"],
                cwd=HERE,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                eventually(lambda: b"roll is up" in self._log.read_bytes(), PATIENCE_S)
                said = self._log.read_text()
                yield said.partition("http://")[2].split()[0]
                process.terminate()
                process.wait(PATIENCE_S)
            finally:
                process.kill()
                process.wait()

    @property
    def log(self) -> str:
        """All that it wrote."""
        return self._log.read_text()

    async def role(self, name: str) -> RoleStatus:
        """Ask how a role is; without a program of its own, which would take its CPU."""
        status = await asyncio.to_thread(Control(self._home / "roll.sock").status)
        return next(role for role in status.roles if role.role == name)

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run `rolekit` against it; return its exit code and output."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rolekit", *arguments),
            cwd=HERE,
            env=self.env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()


class Kept:
    """Posts orders over kept connections, the one used last first; tries nothing again.

    httpx looks through all its connections for each request, and is slower the more wait.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_errors: object) -> None:
        for _, kept in self._idle:
            kept.close()
            with contextlib.suppress(OSError):
                await kept.wait_closed()

    async def post(self, order: dict[str, int]) -> tuple[int, bytes]:
        """Post one; return status and body.

        Raises:
            OSError, EOFError: The connection was reset, or ended without an answer.
        """
        body = json.dumps(order).encode()
        head = (
            "POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await self._connection()
        try:
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(answer.partition("content-length: ")[2].split("\r\n")[0])
            content = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        if "connection: close" in answer:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(answer.split()[1]), content

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():  # the server said that it ends: no request met that
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)


@dataclass
class Load:
    """What was sent, and how long each answer took.

    Attributes:
        per_s: Requests a second, whether or not earlier ones were answered.
        orders: In each request.
        taken: Numbers of the orders whose request was answered with 200.
        failed: What requests met instead.
        times: When each was due and how long its answer took from then, seconds.
        pids: Who answered.
    """

    per_s: float
    orders: int
    taken: list[int] = field(default_factory=list[int])
    failed: list[str] = field(default_factory=list[str])
    times: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    pids: set[int] = field(default_factory=set[int])

    async def run(self, address: str, enough: asyncio.Event) -> None:
        """Send until it is enough, and wait for all answers."""
        async with Kept(address) as kept, asyncio.TaskGroup() as group:
            begun, count = time.monotonic(), 0
            while not enough.is_set():
                due = begun + count / self.per_s
                await asyncio.sleep(due - time.monotonic())
                group.create_task(self._one(kept, count * self.orders, due))
                count += 1

    async def _one(self, kept: Kept, first: int, due: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                status, body = await kept.post({"first": first, "count": self.orders})
        except (OSError, EOFError, TimeoutError) as error:
            self.failed.append(f"{type(error).__name__}: {error}")
            return
        self.times.append((due, time.monotonic() - due))
        if status != OK:
            self.failed.append(f"{status} {body!r}")
            return
        self.taken += range(first, first + self.orders)
        self.pids.add(json.loads(body)["pid"])

    def p99(self, since: float, until: float) -> float:
        """Return the 99th percentile of what was due in this time, seconds."""
        took = sorted(took for due, took in self.times if since <= due < until)
        return took[int(len(took) * 0.99)]


@dataclass(frozen=True)
class Effects:
    """What the orders came to."""

    lost: Sequence[int]
    repeated: Sequence[int]
    by_version: dict[int, int]
    dead: int


async def make_table(database: str) -> None:
    """Make room for effects."""
    connection = await asyncpg.connect(database)
    await connection.execute("create table if not exists effect (number int, version int)")
    await connection.close()


async def until_done(database: str, load: Load) -> Effects:
    """Wait until every order took effect, or nothing more does."""
    connection = await asyncpg.connect(database)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while await _count(connection) < len(load.taken):  # noqa: ASYNC110 - a table
                    await asyncio.sleep(0.1)
        rows = await connection.fetch("select number, version from effect")
        numbers = [row["number"] for row in rows]
        versions = [row["version"] for row in rows]
        dead = await connection.fetchval("select count(*) from rolekit_roll.dead_letter")
    finally:
        await connection.close()
    return Effects(
        lost=sorted(set(load.taken) - set(numbers)),
        repeated=sorted({n for n in numbers if numbers.count(n) > 1})
        if len(set(numbers)) != len(numbers)
        else [],
        by_version={version: versions.count(version) for version in set(versions)},
        dead=dead,
    )


async def _count(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    return int(await connection.fetchval("select count(distinct number) from effect"))
