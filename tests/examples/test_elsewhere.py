"""The demo against a mailflow that runs elsewhere, and the tables that its owner makes."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import asyncpg
import pytest

from examples.mailflow import fleet
from tests.examples.test_demo import LAST_LINE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(180)]


async def run(module: str, *arguments: str, database: str = "") -> tuple[int | None, str]:
    environ = {name: value for name, value in os.environ.items() if name[:8] != "ROLEKIT_"}
    if database:
        environ["ROLEKIT_DATABASE"] = database
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"examples.mailflow.{module}", *arguments, env=environ,
        cwd=fleet.ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.load
async def test_the_demo_sends_to_a_mailflow_elsewhere_and_checks_it(
    tmp_path: Path, database_url: str
) -> None:
    home = fleet.Home(folder=tmp_path, database=database_url, settings=fleet.addresses())
    async with fleet.running(home) as there:
        target = there.target

        code, said = await run(
            "demo", "--once", "--copies", "60", "--front", target.front,
            "--smtp", f"{target.smtp_host}:{target.smtp_port}", database=database_url,
        )  # fmt: skip

        assert there.process.returncode is None
    assert code == 0, said
    assert LAST_LINE.fullmatch(said.splitlines()[-1]), said
    assert f"Sending to {target.front} and " in said


@pytest.mark.parametrize(
    ("arguments", "database", "problem"),
    [
        (("--front", "http://x:1"), "postgresql://x/x", "takes both --front"),
        (("--front", "http://x:1", "--smtp", "x"), "postgresql://x/x", "takes both --front"),
        (("--front", "http://x:1", "--smtp", "x:1"), "", "read in its database: --database"),
    ],
)
async def test_half_an_address_is_2_with_what_is_missing(
    arguments: tuple[str, ...], database: str, problem: str
) -> None:
    code, said = await run("demo", "--once", *arguments, database=database)

    assert code == 2
    assert problem in " ".join(said.split())
    assert "Traceback" not in said


async def test_the_owner_makes_the_tables_as_often_as_it_likes(database_url: str) -> None:
    codes = [await run("schema", database=database_url) for _ in range(2)]

    assert codes == [(0, "mailflow's tables are there.\n")] * 2
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("select count(*) from mail.report") == 0
    await connection.close()


@pytest.mark.parametrize(
    ("database", "code", "problem"),
    [
        ("", 2, "No database is named: set ROLEKIT_DATABASE."),
        ("postgresql://127.0.0.1:1/none", 1, "mailflow's tables were not made: "),
    ],
)
async def test_tables_nowhere_are_refused_with_a_sentence(
    database: str, code: int, problem: str
) -> None:
    found, said = await run("schema", database=database)

    assert found == code
    assert said.startswith(problem)
    assert "Traceback" not in said
