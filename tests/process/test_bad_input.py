"""Bad input through the real command: a sentence or a dead letter, and never a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

import asyncpg
import pytest

from examples.mailflow.fleet import ROOT, stop
from rolekit.cli.main import run
from rolekit.model.envelope import MAX_BODY_BYTES
from tests.faults.bench import Anomalies, Job, Script, bench
from tests.patience import patient
from tests.servers import free_port

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [pytest.mark.anyio, pytest.mark.servers]

APP = "tests.process.bad_input_app"
PARTS = 5
DEEP = 100_000
READY_S = patient(25.0)


@dataclass(frozen=True, slots=True)
class Said:
    """What a command that ended had to say."""

    code: int
    out: str
    err: str

    def __post_init__(self) -> None:
        """Refuse tracebacks, whatever the test is about."""
        assert "Traceback" not in self.out + self.err, self.err


class Command:
    """`rolekit`, on a home and a database of the test."""

    def __init__(self, home: Path, database: str, **settings: str) -> None:
        kept = {name: value for name, value in os.environ.items() if "ROLEKIT" not in name}
        own = {"ROLEKIT_HOME": str(home), "ROLEKIT_DATABASE": database}
        self._environment = {**kept, **own, **settings}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start one."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rolekit", *arguments, env=self._environment, cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, limit=1 << 24,
        )  # fmt: skip

    async def run(self, *arguments: str) -> Said:
        """Run one to its end: in this process, whose imports are done, but for `up`."""
        if arguments[0] == "up":
            return await ended(await self.start(*arguments))
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self._environment, clear=True),
            contextlib.chdir(ROOT),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = await asyncio.to_thread(run, arguments)
        return Said(code, out.getvalue(), err.getvalue())


async def ended(process: asyncio.subprocess.Process) -> Said:
    """Wait for the end of a command."""
    out, err = await process.communicate()
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), err.decode())


@pytest.mark.timeout(60)
async def test_bodies_that_cannot_be_read_become_dead_letters_and_close_their_positions(
    tmp_path: Path, database_url: str
) -> None:
    rolekit = Command(tmp_path, database_url, ROLEKIT_APP=f"{APP}:app")
    connection = await asyncpg.connect(database_url)
    await connection.execute("create table public.collected (place int, what text)")
    up = await rolekit.start("up", "--set", "Work.instances=0")
    assert up.stderr is not None
    async with asyncio.timeout(READY_S):
        while b"bad is up" not in await up.stderr.readline():
            pass
    await rolekit.run("send", "Job", json.dumps({"parts": PARTS}))
    await _rows(connection, "rolekit_bad.queue where queue = 'Work.work'", PARTS)

    await _spoil(connection)
    await rolekit.run("scale", "Work=1")
    await _rows(connection, "public.collected", PARTS)
    await _rows(connection, "rolekit_bad.queue", 0)
    dead = json.loads((await rolekit.run("dead", "list", "--json")).out)
    collected = await connection.fetch("select what from public.collected order by place")
    open_sequences = await connection.fetchval(
        "select count(*) from rolekit_bad.sequence where state = 0"
    )
    await connection.close()
    await stop(up)
    said = await ended(up)

    assert said.code == 0
    what = [row["what"] for row in collected]
    assert what[0] == "done 0"
    assert "Part" in what[1]
    assert str(MAX_BODY_BYTES) in what[2]
    assert "nested" in what[3]
    assert "Part" in what[4]
    assert open_sequences == 0
    reasons = [one["reason"] for one in dead]
    assert len(reasons) == PARTS  # four parts, and one whose head cannot be read
    assert sum("head of a message cannot be read" in reason for reason in reasons) == 1


async def _spoil(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Leave the first part alone; break the others, and add one without a head."""
    bodies = [
        b"\x00 this is no JSON",
        json.dumps({"i": 2, "tree": "x" * (MAX_BODY_BYTES + 1)}).encode(),
        b'{"i":3,"tree":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"i":"four"}',
    ]
    numbers = await connection.fetch(
        "select n from rolekit_bad.queue where queue = 'Work.work' order by n offset 1"
    )
    for row, body in zip(numbers, bodies, strict=True):
        await connection.execute(
            "update rolekit_bad.queue set body = $2 where n = $1", row["n"], body
        )
    await connection.execute(
        "insert into rolekit_bad.queue (queue, id, generation, birth_ms, head, body)"
        " select queue, gen_random_uuid(), 0, birth_ms, 'no head', body"
        " from rolekit_bad.queue where queue = 'Work.work' order by n limit 1"
    )


async def _rows(connection: asyncpg.Connection[asyncpg.Record], where: str, count: int) -> None:
    """Wait until a table has so many rows."""
    sql = f"select count(*) from {where}"  # noqa: S608 - a name from the test
    async with asyncio.timeout(READY_S):
        while await connection.fetchval(sql) != count:  # noqa: ASYNC110 - a database tells nobody
            await asyncio.sleep(0.05)


async def test_a_type_nobody_knows_comes_again_for_a_while_and_then_is_a_dead_letter(
    database_url: str,
) -> None:
    async with bench(database_url, Script()) as at_bench:
        member = await at_bench.member(unknown_s=0.5)

        await at_bench.send_unknown(member, Job(name="newer", parts=1))
        found = await at_bench.check()
        outcomes = await at_bench.outcomes()
        reasons = await at_bench.reasons()

    assert found == Anomalies(parked=1)
    assert outcomes == [(0, "retry"), (1, "dead")]
    assert "Nobody knew it for 1 s" in reasons[0]


async def test_a_database_that_does_not_answer_is_one_line_and_2(tmp_path: Path) -> None:
    port = free_port()
    rolekit = Command(tmp_path, f"postgresql://me:tops3cret@127.0.0.1:{port}/mail")

    said = await rolekit.run("up", f"{APP}:app", "--wait", "1")

    assert said.code == 2
    assert "tops3cret" not in said.err
    waiting, gave_up, remedy = said.err.splitlines()
    assert waiting.startswith(f"waiting for postgresql://me:********@127.0.0.1:{port}/mail")
    assert gave_up.startswith(f"rolekit: postgresql://me:********@127.0.0.1:{port}/mail")
    assert "database" in remedy


async def test_an_app_that_cannot_start_is_refused_with_class_and_remedy(
    tmp_path: Path, database_url: str
) -> None:
    said = await Command(tmp_path, database_url).run("up", f"{APP}:careless")

    assert said.code == 1
    assert "Careless.forget: returns Orphan, which nobody takes" in said.err


async def test_a_port_in_use_is_named_with_its_role(tmp_path: Path, database_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        rolekit = Command(tmp_path, database_url, ROLEKIT_FRONT__BIND=f"127.0.0.1:{port}")

        said = await rolekit.run("up", f"{APP}:app")

    assert said.code == 2
    assert "Front" in said.err
    assert f"127.0.0.1:{port}" in said.err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("scal", "Work=2"), "scale"),
        (("up", f"{APP}:ap"), "app"),
        (("up", f"{APP}:app", "--set", "grace=1"), "grace_s"),
        (("run", "Wrok", "--app", f"{APP}:app"), "Work"),
    ],
)
async def test_a_slip_of_the_finger_is_answered_with_what_was_meant(
    arguments: tuple[str, ...], meant: str, tmp_path: Path, database_url: str
) -> None:
    said = await Command(tmp_path, database_url).run(*arguments)

    assert said.code == 2
    words = said.err.replace("'", "").replace("?", " ").replace(".", " ").split()
    assert " ".join(words).count(f"Did you mean {meant}") == 1
