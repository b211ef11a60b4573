"""Errors as a reader of HTTP sees them: problem+json, one status per condition.

Source: RFC 9457 (Problem Details for HTTP APIs).
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.responses import Response

from rolekit.errors import (
    Failed,
    IntakeFull,
    KeyInUse,
    KeyReused,
    PublishUnknown,
    Reject,
    Retry,
    RolekitError,
    TimedOut,
    Unavailable,
)
from rolekit.flow.request import UnknownId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import HTTPConnection

_log = structlog.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 5
_AWAY = "This service cannot reach its broker or database right now. Try again."
_UNSURE = "Whether this was stored is not known. Try again with the same Idempotency-Key."
_OURS = "Something failed here. It was logged; nothing you sent was wrong."


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a request.

    Attributes:
        path: Where: "body.recipients[0]", "query.page", "path.id", "header.Idempotency-Key".
        message: What was expected there.
    """

    path: str
    message: str


class BadInput(Exception):
    """The request does not fit the parameters of its handler."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{error.path}: {error.message}" for error in errors))
        self.errors = tuple(errors)


class WrongMedia(HTTPException):
    """The body is of a kind that this route does not read."""

    def __init__(self, detail: str) -> None:
        super().__init__(415, detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is told about an error.

    Attributes:
        status: HTTP status.
        detail: One or two sentences for the sender of the request.
        headers: Further headers.
        more: Members beside type, title, status and detail.
    """

    status: int
    detail: str
    headers: dict[str, str] | None = None
    more: dict[str, object] | None = None

    def encode(self) -> bytes:
        """Write it as JSON."""
        try:
            title = HTTPStatus(self.status).phrase
        except ValueError:
            title = "Error"
        body: dict[str, object] = {"type": "about:blank", "title": title, "status": self.status}
        return msgspec.json.encode(body | {"detail": self.detail} | (self.more or {}))

    def response(self) -> Response:
        """Make the answer."""
        return Response(
            self.encode(), self.status, headers=self.headers, media_type=PROBLEM_JSON
        )


def problem_of(error: Exception) -> Problem:
    """Say what the sender of a request is told about this error.

    What nobody foresaw becomes a 500 that says nothing of the inside; log it before.
    """
    for kind, tell in _TELLERS.items():
        if isinstance(error, kind):
            return tell(error)
    return Problem(status=500, detail=_OURS)


def report(error: Exception, *, path: str) -> Problem:
    """Turn an error into a problem, and log the ones whose fault is here."""
    problem = problem_of(error)
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("request failed; its sender got a 500", path=path, exc_info=error)
    elif isinstance(error, Unavailable | PublishUnknown):
        _log.warning("request answered with 503", path=path, why=str(error))
    return problem


def answer_error(request: HTTPConnection, error: Exception) -> Response:
    """Answer an error: the exception handler added to mounted Starlette and FastAPI apps."""
    return report(error, path=request.url.path).response()


HANDLED: tuple[type[Exception], ...] = (RolekitError, Reject, Retry)
"""What a mounted app raises only because it uses rolekit."""


def _bad_input(error: Exception) -> Problem:
    found = error.errors if isinstance(error, BadInput) else ()
    listed = [{"path": item.path, "message": item.message} for item in found]
    return Problem(status=400, detail=str(error), more={"errors": listed})


def _http(error: Exception) -> Problem:
    if not isinstance(error, HTTPException):
        raise TypeError from error
    headers = dict(error.headers) if error.headers else None
    return Problem(status=error.status_code, detail=error.detail, headers=headers)


def _failed(error: Exception) -> Problem:
    letter = error.dead_letter_id if isinstance(error, Failed) else ""
    return Problem(status=502, detail=str(error), more={"dead_letter_id": letter})


def _timed_out(error: Exception) -> Problem:
    receipt = error.receipt_id if isinstance(error, TimedOut) else ""
    return Problem(status=504, detail=str(error), more={"receipt_id": receipt})


def _plain(status: int) -> Callable[[Exception], Problem]:
    return lambda error: Problem(status=status, detail=str(error))


def _later(detail: str = "", *, status: int = 503) -> Callable[[Exception], Problem]:
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return lambda error: Problem(status=status, detail=detail or str(error), headers=headers)


_TELLERS: dict[type[Exception], Callable[[Exception], Problem]] = {
    BadInput: _bad_input,
    HTTPException: _http,
    UnknownId: _plain(404),
    KeyReused: _plain(422),
    Reject: _plain(422),
    KeyInUse: _later(status=409),
    Failed: _failed,
    TimedOut: _timed_out,
    IntakeFull: _later(),
    Retry: _later(),
    Unavailable: _later(_AWAY),
    PublishUnknown: _later(_UNSURE),
}
