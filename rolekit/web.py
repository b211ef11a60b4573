"""Routes of a WebRole: decorators that mark its methods, and the client of a request."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar, cast

from starlette.requests import HTTPConnection  # noqa: TC002  FastAPI reads the annotation

from rolekit.errors import AppError
from rolekit.flow.client import Client  # noqa: TC001  FastAPI reads the annotation
from rolekit.model.message import enclosing_frame

if TYPE_CHECKING:
    from types import FrameType

W = TypeVar("W", bound=Callable[..., object])

CLIENT: Final = "rolekit.client"
"""Where the client stands in the state of an ASGI scope."""

_MARKS: Final = "__rolekit_routes__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a decorator noted on a method.

    Attributes:
        method: GET, POST, …
        path: As written, "/mail/{id}".
        status: Of an answer with a body.
        frame: The function in whose body the role was made (a test), or None; its locals
            resolve annotations that the module does not know.
    """

    method: str
    path: str
    status: int
    frame: FrameType | None


def get(path: str, /, *, status: int = 200) -> Callable[[W], W]:
    """Answer GET requests for this path with this method."""
    return _marker("GET", path, status)


def post(path: str, /, *, status: int = 200) -> Callable[[W], W]:
    """Answer POST requests for this path with this method."""
    return _marker("POST", path, status)


def put(path: str, /, *, status: int = 200) -> Callable[[W], W]:
    """Answer PUT requests for this path with this method."""
    return _marker("PUT", path, status)


def patch(path: str, /, *, status: int = 200) -> Callable[[W], W]:
    """Answer PATCH requests for this path with this method."""
    return _marker("PATCH", path, status)


def delete(path: str, /, *, status: int = 200) -> Callable[[W], W]:
    """Answer DELETE requests for this path with this method."""
    return _marker("DELETE", path, status)


def client(request: HTTPConnection) -> Client:
    """Return the client of the role that serves this request: `Depends(web.client)`.

    Works in whatever app is mounted in a WebRole, also for web sockets.

    Raises:
        AppError: The request does not come through a WebRole.
    """
    found = request.scope.get("state", {}).get(CLIENT)
    if found is None:
        raise AppError(
            f"{request.scope['path']} was not served by a WebRole, so there is no client.",
            fix="Mount the app in a WebRole (mounts = {'/': api}), or use App.client().",
        )
    return cast("Client", found)


def marks_of(function: object) -> tuple[Mark, ...]:
    """Return what the decorators noted on this function, in the order of the source."""
    return cast("tuple[Mark, ...]", getattr(function, _MARKS, ()))


def _marker(method: str, path: str, status: int) -> Callable[[W], W]:
    frame = _enclosing_function()

    def mark(function: W) -> W:
        noted = Mark(method=method, path=path, status=status, frame=frame)
        setattr(function, _MARKS, (noted, *marks_of(function)))
        return function

    return mark


def _enclosing_function() -> FrameType | None:
    """Find the function around the class body in which a decorator is called."""
    here = inspect.currentframe()
    for _ in range(3):  # this function, _marker, the decorator
        here = here.f_back if here is not None else None
    return enclosing_frame(here) if here is not None else None
