"""The dashboard's door: who may look, who may change something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rolekit.cli.dashboard_lock import Lock, locked
from rolekit.config import Config, load
from rolekit.dashboard.door import COOKIE, CSRF, Door
from rolekit.errors import ConfigError
from rolekit.testing.certificates import make_certificates

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

pytestmark = pytest.mark.anyio

TOKEN = "t" * 32


async def _inside(request: Request) -> Response:
    return PlainTextResponse(f"{request.method} inside")


def door(
    *, token: str = "", now: list[float] | None = None, is_encrypted: bool = False
) -> Door:
    paths = ("/", "/api/live", "/api/scale", "/static/dashboard.css")
    app = Starlette(routes=[Route(path, _inside, methods=["GET", "POST"]) for path in paths])
    at = now or [0.0]
    return Door(app, token=token, is_encrypted=is_encrypted, clock=lambda: at[0])


def browser(one: Door, host: str = "127.0.0.1:8710") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(one), base_url=f"http://{host}")


@pytest.mark.parametrize("host", ["127.0.0.1:8710", "localhost:8710", "[::1]:8710"])
async def test_on_this_machine_anybody_may_look(host: str) -> None:
    async with browser(door(), host) as one:
        answer = await one.get("/")

    assert answer.text == "GET inside"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_name_that_somebody_else_pointed_here_is_not_answered_to() -> None:
    async with browser(door(), "evil.example") as one:
        answer = await one.get("/")

    assert answer.status_code == 403
    assert "does not answer to the name evil.example" in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:8710", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({CSRF: "guessed"}, 403),
        ({CSRF: ""}, 403),
    ],
)
async def test_changes_come_from_the_page_itself(headers: dict[str, str], status: int) -> None:
    one = door()
    async with browser(one) as client:
        answer = await client.post("/api/scale", headers={CSRF: one.csrf, **headers})

    assert answer.status_code == status


async def test_with_a_token_nothing_is_shown_without_it() -> None:
    async with browser(door(token=TOKEN), "box.example") as one:
        page, api, style = (
            await one.get("/"),
            await one.get("/api/live"),
            await one.get("/static/dashboard.css"),
        )

    assert (page.status_code, page.headers["location"]) == (303, "/login")
    assert api.status_code == 401
    assert style.status_code == 200


async def test_the_token_lets_in_for_half_a_day() -> None:
    now = [0.0]
    one = door(token=TOKEN, now=now)
    async with browser(one, "box.example") as client:
        wrong = await client.post("/login", data={"token": "guess"})
        right = await client.post("/login", data={"token": TOKEN})
        inside = await client.get("/")
        now[0] = 13 * 3600
        later = await client.get("/")

    assert (wrong.status_code, "That is not the token" in wrong.text) == (401, True)
    assert right.status_code == 303
    cookie = right.headers["set-cookie"].lower()
    assert cookie.startswith(COOKIE)
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert inside.text == "GET inside"
    assert later.status_code == 303


async def test_guessing_is_slow() -> None:
    now = [0.0]
    async with browser(door(token=TOKEN, now=now), "box.example") as one:
        for _ in range(5):
            await one.post("/login", data={"token": "guess"})
        refused = await one.post("/login", data={"token": TOKEN})
        now[0] = 11.0
        taken = await one.post("/login", data={"token": TOKEN})

    assert refused.status_code == 429
    assert taken.status_code == 303


def test_an_address_that_others_reach_needs_a_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    environ = {
        "ROLEKIT_DASHBOARD_TOKEN_FILE": str(file),
        "ROLEKIT_DASHBOARD_CERTIFICATE": "elsewhere",
    }
    config = load(environ, folder=tmp_path)

    assert config.warnings == ()
    assert locked("127.0.0.1:8710", Config()) == Lock()
    with pytest.raises(ConfigError, match="needs a token of 32 bytes"):
        locked("0.0.0.0:8710", Config())
    assert locked("0.0.0.0:8710", config) == Lock(TOKEN)
    of_control = Config(control_token=TOKEN, dashboard_certificate="elsewhere")
    assert locked("0.0.0.0:8710", of_control).token == TOKEN
    assert TOKEN not in repr(config)


def test_an_address_that_others_reach_needs_tls(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    other = make_certificates(tmp_path_factory.mktemp("others"))
    certificate, key = str(made.server), str(made.server_key)

    def with_(dashboard_certificate: str = "", dashboard_key: str = "") -> Lock:
        config = Config(
            dashboard_token=TOKEN,
            dashboard_certificate=dashboard_certificate,
            dashboard_key=dashboard_key,
        )
        return locked("0.0.0.0:8710", config)

    with pytest.raises(ConfigError, match="must not travel in the clear"):
        with_()
    with pytest.raises(ConfigError, match="dashboard_certificate is not"):
        with_(dashboard_key=key)
    with pytest.raises(ConfigError, match=r"cannot be used with its key, .*: .*mismatch"):
        with_(dashboard_certificate=certificate, dashboard_key=str(other.server_key))
    with pytest.raises(ConfigError, match="No such file"):
        with_(dashboard_certificate=f"{certificate}.gone")
    assert with_(dashboard_certificate=certificate, dashboard_key=key) == Lock(
        TOKEN, certificate, key
    )


@pytest.mark.parametrize("is_encrypted", [True, False])
async def test_over_tls_the_cookie_goes_nowhere_else(*, is_encrypted: bool) -> None:
    one = door(token=TOKEN, is_encrypted=is_encrypted)
    async with browser(one, "box.example") as client:
        answer = await client.post("/login", data={"token": TOKEN})

    assert ("secure" in answer.headers["set-cookie"].lower()) is is_encrypted
