"""Who is let in over TCP: who has the token, and who guesses is held up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.responses import PlainTextResponse
from structlog.testing import capture_logs

from rolekit.supervisor.control_access import BURST, Guard

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("inside")(scope, receive, send)


class Clock:
    """Is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def knocking(guard: Guard, address: str = "10.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(guard, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://x")


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_the_token_lets_in() -> None:
    token = "b" * 32
    async with knocking(Guard(inside, token)) as http:
        answer = await http.get("/ps", headers=bearing(token))

    assert answer.text == "inside"


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "no token"),
        ({"Authorization": "Bearer "}, "no token"),
        ({"Authorization": "Basic " + "b" * 32}, "a wrong token"),
        ({"Authorization": "Bearer " + "b" * 31}, "a wrong token"),
        ({"Authorization": "Bearer " + "b" * 33}, "a wrong token"),
    ],
)
async def test_without_it_is_401_and_logged(headers: dict[str, str], why: str) -> None:
    async with knocking(Guard(inside, "b" * 32)) as http:
        with capture_logs() as logs:
            answer = await http.get("/ps", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["what"] == f"The control API was sent {why}."
    assert [(one["why"], one["address"], one["path"]) for one in logs] == [
        (why, "10.0.0.1", "/ps")
    ]
    assert "bbb" not in str(logs)


async def test_who_guesses_is_held_up_and_nobody_else() -> None:
    token, clock = "b" * 32, Clock()
    guard = Guard(inside, token, clock=clock)
    async with knocking(guard) as guessing, knocking(guard, "10.0.0.2") as other:
        statuses = [(await guessing.get("/ps")).status_code for _ in range(BURST)]
        with capture_logs() as logs:
            held_up = await guessing.get("/ps", headers=bearing(token))
        elsewhere = await other.get("/ps", headers=bearing(token))
        clock.now_s += 1
        later = await guessing.get("/ps", headers=bearing(token))

    assert statuses == [401] * BURST
    assert held_up.status_code == 429
    assert held_up.headers["retry-after"] == "1"
    assert logs == []  # a flood of guesses is no flood of lines
    assert (elsewhere.status_code, later.status_code) == (200, 200)


async def test_addresses_without_end_use_no_memory_without_end() -> None:
    guard = Guard(inside, "b" * 32)
    for number in range(1500):
        async with knocking(guard, f"10.1.{number >> 8}.{number & 255}") as http:
            await http.get("/ps")

    assert len(guard.remembered) == 1024
    assert "10.1.5.219" in guard.remembered


async def test_what_is_public_needs_none() -> None:
    async with knocking(Guard(inside, "b" * 32, {"/ready"})) as http:
        answer = await http.get("/ready")

    assert answer.text == "inside"
