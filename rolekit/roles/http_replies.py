"""What a method returned, as an HTTP response; and a response as it is kept under a key."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from rolekit.flow.request import Saved
from rolekit.model.message import Receipt, is_message_class
from rolekit.roles.http_sse import Events

if TYPE_CHECKING:
    import anyio
    from starlette.requests import Request

JSON = "application/json"
_DERIVED = ("content-length", "content-type")


def encode(message: Any) -> bytes:  # noqa: ANN401  classes of users
    """Write a message as a JSON object, without its wire name."""
    if hasattr(message, "model_dump_json"):
        text: str = message.model_dump_json()
        return text.encode()
    return msgspec.json.encode(message)


def render(
    result: object, request: Request, *, status: int, closing: anyio.Event
) -> Response | Events:
    """Turn what a method returned into a response.

    Args:
        result: A response, None, a receipt, a message, or an iterator of messages.
        request: What is answered.
        status: Of an answer with a message.
        closing: Set when streams have to end.

    Raises:
        TypeError: Something else was returned, against the annotation.
    """
    if isinstance(result, Response):
        return result
    if result is None:
        return Response(status_code=204)
    if isinstance(result, Receipt):
        place = quote(request.scope["path"].rstrip("/")) + f"/{result.id}"
        return Response(encode(result), 202, {"Location": place}, media_type=JSON)
    if is_message_class(type(result)):
        return Response(encode(result), status, media_type=JSON)
    if isinstance(result, AsyncIterable | Iterable) and not isinstance(result, str | bytes):
        items = cast("AsyncIterable[object] | Iterable[object]", result)
        return Events(items, encode=encode, closing=closing, path=request.scope["path"])
    raise TypeError(f"a route returned {type(result).__name__}, which is no message")


def is_whole(response: Response | Events) -> bool:
    """Tell whether all of a response is there already, so that it can be kept."""
    return isinstance(response, Response) and hasattr(response, "body")


def keep(response: Response) -> Saved:
    """Take a response down, to give it again."""
    headers = [
        (name, value) for name, value in response.headers.items() if name not in _DERIVED
    ]
    return Saved(
        status=response.status_code,
        media_type=response.headers.get("content-type", ""),
        body=bytes(response.body),
        headers=tuple(headers),
    )


def give_again(saved: Saved) -> Response:
    """Make the response that was kept."""
    response = Response(saved.body, saved.status, media_type=None)
    if saved.media_type:
        response.headers["content-type"] = saved.media_type
    for name, value in saved.headers:
        response.headers.append(name, value)
    return response
