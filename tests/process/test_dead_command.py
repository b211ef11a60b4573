"""`rolekit dead` through the real command, on dead letters that an app left behind."""

from __future__ import annotations

import getpass
import json
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from rolekit.testing import run_app
from tests.process.dead_app import Charge, Order, app
from tests.process.test_bad_input import Command

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

APP = "tests.process.dead_app:app"
NOTES = ("Closed today", "closed tonight", "broken")


class Desk:
    """An operator, and a look into the database."""

    def __init__(self, command: Command, connection: asyncpg.Connection) -> None:
        self._command = command
        self._connection = connection

    async def dead(self, *arguments: str, code: int = 0) -> str:
        """Run `rolekit dead`; return what it printed, results and sentences."""
        said = await self._command.run(
            "dead", *arguments, "--app", "tests.process.dead_app:app"
        )
        assert said.code == code, said
        return said.out + said.err

    async def shown(self, *arguments: str) -> str:
        """Return what `show` printed; a traceback is part of a dead letter."""
        process = await self._command.start("dead", "show", *arguments, "--app", APP)
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()

    async def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """Return what a listing has."""
        said = await self._command.run("dead", "list", *arguments, "--json", "--app", APP)
        found: list[dict[str, Any]] = json.loads(said.out)
        return found

    async def queued(self) -> list[tuple[int, bytes]]:
        """Return generation and body of what was sent again, in order."""
        rows = await self._connection.fetch(
            "select generation, body from rolekit_deadly.queue order by n"
        )
        return [(row["generation"], row["body"]) for row in rows]

    async def noted(self) -> list[tuple[str, str, str]]:
        """Return what was done by this user, in order: to what, and what came of it."""
        who = f"{getpass.getuser()}@{socket.gethostname()}"
        rows = await self._connection.fetch(
            "select act, what, outcome from rolekit_deadly.audit where who = $1 order by n", who
        )
        return [(row["act"], row["what"], row["outcome"]) for row in rows]


@asynccontextmanager
async def desk_of(database: str, home: Path) -> AsyncGenerator[Desk]:
    connection = await asyncpg.connect(database)
    await connection.execute(
        "create table orders (number int primary key, secret text); create table undone (n int)"
    )
    async with run_app(app, database=database) as running:
        for note in NOTES:
            await running.client.send(Order(number=1, note=note))
            await running.idle()
        for _ in range(2):
            await running.client.send(Order(number=7))
            await running.idle()
        await running.client.send(Charge(number=3))
        await running.idle()
    try:
        yield Desk(Command(home, database), connection)
    finally:
        await connection.close()


@pytest.fixture
async def desk(database_url: str, tmp_path: Path) -> AsyncGenerator[Desk]:
    async with desk_of(database_url, tmp_path / "home") as opened:
        yield opened


async def test_filters_combine_and_one_that_matches_nothing_is_said(desk: Desk) -> None:
    late = await desk.listed("--reason", "closed", "--handler", "Shop.order", "--since", "1h")
    none = await desk.dead("list", "--reason", "closed", "--type", "shop.charge")
    refused = await desk.dead("replay", "--reason", "early", code=1)
    odd = await desk.dead("list", "--since", "soon", code=2)

    assert [row["reason"] for row in late] == ["closed tonight", "Closed today"]
    assert "no open dead letter of type shop.charge, with 'closed' in the reason." in none
    assert "no open dead letter with 'early' in the reason." in refused
    assert "'soon' is no time." in odd
    assert await desk.queued() == []


async def test_an_answered_letter_is_left_out_unless_that_is_said(desk: Desk) -> None:
    charges = [
        await desk.listed("--type", "shop.charge", *more) for more in ((), ("--answered",))
    ]

    refused = await desk.dead("replay", "--type", "shop.charge", code=1)
    await desk.dead("replay", "--type", "shop.charge", "--answered")

    assert [[row["state"] for row in rows] for rows in charges] == [[], ["answered"]]
    assert "There is no open dead letter" in refused
    assert await desk.queued() == [(1, b'{"number":3}')]


async def test_a_dry_run_changes_nothing_and_a_rate_is_kept(desk: Desk) -> None:
    dry = await desk.dead("replay", "--all", "--dry-run")
    before = (len(await desk.listed()), await desk.queued())
    begin = time.monotonic()

    paced = await desk.dead("replay", "--all", "--rate", "2", "--json")
    took_s = time.monotonic() - begin

    assert "4 would be replayed; nothing was changed." in dry
    assert before == (4, [])
    assert json.loads(paced) == {"replayed": 4, "left": 0}
    assert took_s >= 1.5
    assert [generation for generation, _ in await desk.queued()] == [1, 1, 1, 1]


async def test_a_refused_statement_is_shown_without_its_values(desk: Desk) -> None:
    (row,) = await desk.listed("--reason", "UniqueViolation")

    plain = await desk.shown(row["id"][:12])
    whole = await desk.shown(row["id"], "--values")

    assert row["id"].partition("-")[0] in row["reason"]
    assert "insert into orders (number, secret) values ($1, $2)" in row["reason"]
    for text in ("s3cret", "(number)=(7)"):
        assert text not in plain
    assert "(number)=(7)" not in json.dumps(row)
    assert "Key (number)=(7) already exists." in whole


async def test_an_edit_is_checked_kept_and_replayed(desk: Desk) -> None:
    (row,) = await desk.listed("--reason", "broken")

    odd = await desk.dead("edit", row["id"], '{"number": "x"}', code=2)
    untouched = await desk.listed("--reason", "broken")
    await desk.dead("edit", row["id"][:20], '{"number": 9}')
    queued = await desk.queued()
    (edited,) = await desk.listed("--reason", "broken")
    await desk.dead("replay", row["id"])
    late = await desk.dead("edit", row["id"], '{"number": 8}', code=1)

    assert "Nothing was changed." in odd
    assert untouched == [row]
    assert (queued, edited["edited"]) == ([], True)
    assert await desk.queued() == [(1, b'{"number":9,"note":""}')]
    assert "is closed already" in late
    assert await desk.noted() == [
        ("edit", row["id"], "edited"),
        ("replay", row["id"], "replayed: 1 of 1"),
    ]


async def test_a_drop_says_what_it_did_and_ids_may_be_cut_short(desk: Desk) -> None:
    row = (await desk.listed("--reason", "broken"))[0]

    dropped = await desk.dead("drop", row["id"][:16])
    several = await desk.dead("show", "", code=1)
    again = await desk.dead("drop", row["id"], code=1)

    assert dropped == "dropped: 1\n"
    assert await desk.noted() == [("drop", row["id"], "dropped: 1 of 1")]
    assert "There is no dead letter" in several
    assert f"with an id that begins with {row['id']}." in again
    assert len(await desk.listed()) == 3
