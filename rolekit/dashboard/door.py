"""Who may look at the dashboard, and who may change something.

On a loopback address anybody on this machine may look; the name that the browser asked for
must be one of this machine, or a page from elsewhere could have its own name point here (DNS
rebinding). On any other address one needs the token, once: a cookie remembers it.

What changes something must come from the page itself: same origin, and with the value that
only the page was given (CSRF).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rolekit.dashboard.shipped import FILES

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "rolekit_dashboard"
CSRF = "x-rolekit-csrf"
LOGIN = "/login"
TOKEN_BYTES = 32
_KEPT_S = 12 * 3600
_TRIES, _PAUSE_S = 5, 10.0
_MOST_BODY = 64 * 1024
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
_HEADERS = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            b"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Refusal(msgspec.Struct, frozen=True):
    """Why a request was refused, and what to do."""

    what: str
    fix: str = ""


class Door:
    """An ASGI app that lets in who may come in.

    Args:
        app: Is given what is let in.
        token: That is needed to look; empty: none is, and only names of this machine are
            answered to.
        hosts: Names that are answered to beside those of this machine.
        is_encrypted: Whether browsers reach it over TLS: its cookie goes nowhere else then.
        clock: Seconds, never going backwards.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str = "",
        hosts: tuple[str, ...] = (),
        is_encrypted: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._token = hashlib.sha256(token.encode()).digest() if token else b""
        self._hosts = frozenset(hosts)
        self._is_encrypted = is_encrypted
        self._clock = clock
        self._guests: dict[str, float] = {}
        self._failed: list[float] = []
        self.csrf = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        request = Request(scope, receive)
        response = await self._turned_away(request)
        await (response or self._app)(scope, receive, send_guarded)

    async def _turned_away(self, request: Request) -> Response | None:
        """Return what is answered instead; None: it may come in."""
        if not self._token and request.url.hostname not in _LOOPBACK | self._hosts:
            return refuse(
                403,
                f"This dashboard does not answer to the name {request.url.hostname}.",
                "Open it by 127.0.0.1, or start it with a token.",
            )
        if request.method == "POST" and not self._is_same_origin(request):
            return refuse(403, "This request comes from another page.")
        if request.url.path == LOGIN and self._token:
            return await self._login(request)
        if self._token and not self._is_known(request):
            return _to_the_form(request)
        if request.method == "POST" and not self._has_csrf(request):
            return refuse(403, "The page that sent this is out of date.", "Load it again.")
        return None

    def _is_same_origin(self, request: Request) -> bool:
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "same-origin")
        is_here = origin is None or urlsplit(origin).netloc == request.headers.get("host")
        return is_here and site in {"same-origin", "none"}

    def _has_csrf(self, request: Request) -> bool:
        given = request.headers.get(CSRF, "")
        return hmac.compare_digest(given.encode(), self.csrf.encode())

    def _is_known(self, request: Request) -> bool:
        until = self._guests.get(request.cookies.get(COOKIE, ""), 0.0)
        return until > self._clock()

    async def _login(self, request: Request) -> Response:
        if request.method != "POST":
            return _form()
        now = self._clock()
        self._failed = [at for at in self._failed if now - at < _PAUSE_S]
        if len(self._failed) >= _TRIES:
            return _form("Too many wrong tokens; wait a few seconds.", 429)
        given = await _token_in(request)
        if not hmac.compare_digest(hashlib.sha256(given).digest(), self._token):
            self._failed.append(now)
            return _form("That is not the token.", 401)
        guest = secrets.token_urlsafe(32)
        self._guests = {one: until for one, until in self._guests.items() if until > now}
        self._guests[guest] = now + _KEPT_S
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE,
            guest,
            max_age=_KEPT_S,
            httponly=True,
            secure=self._is_encrypted,
            samesite="strict",
        )
        return response


def _to_the_form(request: Request) -> Response | None:
    path = request.url.path
    if path.startswith("/static/"):
        return None  # the form has a style, too
    if path.startswith("/api/"):
        return refuse(401, "The token is needed.", "Open the page and enter it.")
    return RedirectResponse(LOGIN, 303)


async def _token_in(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY:
            return b""
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].encode()


def _form(problem: str = "", status: int = 200) -> Response:
    page = FILES["login.html"].decode()
    return Response(page.replace("%PROBLEM%", problem), status, media_type="text/html")


def refuse(status: int, what: str, fix: str = "") -> Response:
    """Make the answer to a request that is refused."""
    return Response(
        msgspec.json.encode(Refusal(what, fix)), status, media_type="application/json"
    )
