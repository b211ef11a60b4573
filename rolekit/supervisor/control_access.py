"""Who may use the control API over TCP: who has the token.

The Unix socket needs none: only the user who started the supervisor can open it.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from typing import TYPE_CHECKING

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from rolekit.supervisor.control import ControlProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

_log = structlog.get_logger("rolekit.supervisor")

BURST = 10
"""Wrong tokens an address may send at once; then one a second is looked at."""
_MOST_ADDRESSES = 1024  # remembered; beyond, those that failed longest ago are forgotten
_WRONG, _TOO_OFTEN = 401, 429


class Guard:
    """An ASGI app that passes on what comes with the token, and logs and refuses the rest.

    Args:
        app: Is given what is let in.
        token: 32 bytes or more; only its hash is kept.
        public: Paths that need no token.
        clock: Seconds, never going backwards.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        public: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._digest = _digest(token.encode())
        self._public = public
        self._clock = clock
        self._failures: dict[str, tuple[float, float]] = {}

    @property
    def remembered(self) -> Collection[str]:
        """Addresses that sent a wrong token of late."""
        return self._failures.keys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope)
        if scope["path"] not in self._public and (refusal := self._refusal(request)):
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        address = request.client.host if request.client else "unknown"
        wait_s = self._wait_s(address)
        if wait_s > 0:
            return _refuse(
                _TOO_OFTEN,
                ControlProblem("Too many wrong tokens came from here.", "Try again later."),
                {"Retry-After": str(math.ceil(wait_s))},
            )
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        is_right = hmac.compare_digest(_digest(token.strip().encode()), self._digest)
        if is_right and kind.casefold() == "bearer":
            return None
        what = "a wrong token" if token else "no token"
        self._note(address)
        _log.warning(
            "a request to the control API was refused",
            why=what,
            address=address,
            path=request.url.path,
        )
        return _refuse(
            _WRONG,
            ControlProblem(
                f"The control API was sent {what}.",
                "Set ROLEKIT_CONTROL_TOKEN, or ROLEKIT_CONTROL_TOKEN_FILE, to the token that "
                "the supervisor was started with.",
            ),
            {"WWW-Authenticate": 'Bearer realm="rolekit"'},
        )

    def _wait_s(self, address: str) -> float:
        """Return how long nothing is looked at that comes from there."""
        spent, at = self._failures.get(address, (0.0, 0.0))
        return max(0.0, spent - (self._clock() - at) - (BURST - 1))

    def _note(self, address: str) -> None:
        """Count one failure; they are forgotten at one a second."""
        now = self._clock()
        spent, at = self._failures.pop(address, (0.0, now))
        self._failures[address] = (max(0.0, spent - (now - at)) + 1, now)
        while len(self._failures) > _MOST_ADDRESSES:
            del self._failures[next(iter(self._failures))]


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _refuse(status: int, problem: ControlProblem, headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(problem), status, headers, "application/json")
