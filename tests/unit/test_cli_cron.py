"""`rolekit cron`: when handlers that are called by time are due."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rolekit.cli.main import run
from rolekit.database import Database
from rolekit.store.base import TimerRow
from rolekit.store.migrate import migrate
from rolekit.store.postgres import PostgresStore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("place")

APP = """
from rolekit import App, Message, WorkerRole, cron, every, handle

class Nightly(WorkerRole):
    {mark}
    async def due(self{more}) -> None: ...
    @handle
    async def work(self, message: "Work") -> None: ...

class Work(Message):
    n: int

app = App("night", roles=[Nightly])
"""


def write_app(place: Path, name: str, mark: str, more: str = "") -> str:
    (place / f"{name}.py").write_text(APP.format(mark=mark, more=more))
    return f"{name}:app"


def test_the_next_times_are_shown_in_the_clocks_of_their_zone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = write_app(place, "nightly_one", '@cron("30 3 * * *", tz="Asia/Tokyo")')

    code = run(["cron", "--app", target, "--offline", "--next", "3", "--json"])

    (line,) = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (line["handler"], line["schedule"]) == ("Nightly.due", "30 3 * * * Asia/Tokyo")
    assert (line["last"], line["planned"], line["missed"]) == (None, False, "once")
    times = [dt.datetime.fromisoformat(text) for text in line["next"]]
    assert [at.timetz().isoformat() for at in times] == ["03:30:00+09:00"] * 3
    assert times[1] - times[0] == dt.timedelta(days=1)


def test_an_app_without_any_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = write_app(place, "nightly_none", "@handle", more=', work: "Work"')

    assert run(["cron", "--app", target]) == 0
    assert "has no handlers with @cron or @every" in capsys.readouterr().out


def test_a_line_that_never_comes_is_a_sentence_at_check(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = write_app(place, "nightly_bad", '@cron("0 0 30 2 *")')

    code = run(["check", target])

    assert code == 1
    assert "Nightly.due: @cron: '0 0 30 2 *' never comes" in capsys.readouterr().err


def test_what_a_database_has_planned_goes_before_the_code(
    place: Path, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    target = write_app(place, "nightly_two", "@every(3600)")
    sets = ["--set", f"database={database_url}"]

    before = run(["cron", "--app", target, *sets, "--json"])
    (line,) = json.loads(capsys.readouterr().out)
    asyncio.run(plant(database_url, next_ms=7_200_000, fired_ms=3_600_000))
    after = run(["cron", "--app", target, *sets, "--next", "2"])

    assert (before, line["planned"]) == (0, False), "nothing was started there yet"
    assert after == 0
    shown = capsys.readouterr().out
    assert "1970-01-01T02:00:00+00:00, 1970-01-01T03:00:00+00:00" in shown
    assert "1970-01-01T01:00:00+00:00  once" in shown


async def plant(database_url: str, next_ms: int, fired_ms: int) -> None:
    database = Database(database_url, "night")
    try:
        await migrate(database)
        store = PostgresStore(database)
        row = TimerRow(handler="Nightly.due", schedule="every 3600 s", next_ms=1)
        await store.plant([row])
        await store.fire(row, replace(row, next_ms=next_ms, fired_ms=fired_ms), [])
    finally:
        await database.close()
