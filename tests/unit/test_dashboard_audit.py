"""Who changed something on the dashboard is kept, whatever came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from structlog.testing import capture_logs

from rolekit.dashboard.pages import Options
from tests.browser.board import LETTER, MadeUpConsole, MadeUpFleet, board

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio


async def changed(
    console: MadeUpConsole, *orders: tuple[str, Mapping[str, str]], token: str = ""
) -> list[int]:
    """Send these orders, as the page does; return how each was answered."""
    options = Options(may_change=True, token=token)
    async with (
        board(options, MadeUpFleet(), console) as address,
        httpx.AsyncClient(base_url=address) as browser,
    ):
        if token:
            await browser.post("/login", data={"token": token})
        csrf = (await browser.get("/api/about")).json()["csrf"]
        headers = {"x-rolekit-csrf": csrf}
        return [
            (await browser.post(f"/api/{act}", json=dict(order), headers=headers)).status_code
            for act, order in orders
        ]


async def test_who_did_what_and_what_came_of_it_is_kept() -> None:
    console = MadeUpConsole()

    answers = await changed(
        console,
        ("scale", {"role": "Role1", "count": "5"}),
        ("scale", {"role": "Role1", "count": ""}),
        ("restart", {"role": "Role2"}),
        ("replay", {"id": LETTER.id}),
        ("drop", {"id": LETTER.id}),
    )

    assert answers == [200, 400, 200, 200, 200]
    assert {act.who for act in console.acts} == {"127.0.0.1"}
    assert [(act.act, act.what, act.outcome) for act in console.acts] == [
        ("scale", "Role1=5", "Role1: 5 instances."),
        ("scale", "Role1=", "refused: '' is not a number of instances."),
        ("restart", "Role2", "Role2 was restarted."),
        ("replay", LETTER.id, "It was sent again."),
        ("drop", LETTER.id, "It was dropped."),
    ]


async def test_who_had_the_token_is_said_to_have_had_it() -> None:
    console = MadeUpConsole()

    await changed(console, ("restart", {"role": "Role2"}), token="t" * 32)

    assert [act.who for act in console.acts] == ["127.0.0.1, with the token"]


async def test_a_database_that_is_away_keeps_nobody_from_restarting_a_role() -> None:
    console = MadeUpConsole()
    console.is_away = True

    with capture_logs() as lines:
        answers = await changed(console, ("restart", {"role": "Role2"}))

    assert answers == [200]
    assert [line["log_level"] for line in lines] == ["info", "error"]
    assert lines[0]["what"] == "Role2"
