"""What a task of Celery is, as a message: its call becomes the fields of a class.

Celery writes `[args, kwargs, embed]`, and the name and the id of the task beside it. The
message class is called like the task; its fields are filled by position and by name, as a
function's parameters are. When the call is due, and until when it is worth anything, stands
around the body, so that it goes with it.

Source: Celery, "Message Protocol", version 2; kombu/utils/json.py for `__type__`.
"""

from __future__ import annotations

import datetime as dt
from base64 import b64decode
from typing import TYPE_CHECKING, Any, cast

import msgspec

from rolekit.errors import Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CODEC = "celery"
_OWN = frozenset({
    "argsrepr", "compression", "eta", "expires", "group", "group_index", "id", "ignore_result",
    "kwargsrepr", "lang", "origin", "parent_id", "replaced_task_nesting", "retries", "root_id",
    "shadow", "stamped_headers", "stamps", "task", "timelimit",
})  # fmt: skip
_GOES_ON = ("chain", "chord", "callbacks", "errbacks")


class Timed(msgspec.Struct, kw_only=True):
    """A call with its times, milliseconds since 1970."""

    call: msgspec.Raw
    eta_ms: int | None = None
    expires_ms: int | None = None


_call = msgspec.json.Decoder(tuple[list[Any], dict[str, Any], dict[str, Any] | None]).decode
_timed = msgspec.json.Decoder(Timed).decode


def is_task(headers: Mapping[str, object]) -> bool:
    """Whether headers are those of a task."""
    return isinstance(headers.get("task"), str) and isinstance(headers.get("id"), str)


def kept(headers: Mapping[str, object]) -> dict[str, str]:
    """Return the headers that travel on: the sender's, not Celery's own."""
    return {k: v for k, v in headers.items() if isinstance(v, str) and k not in _OWN}


def timed(headers: Mapping[str, object], body: bytes) -> bytes:
    """Put the times of a call around it; a call without any stays as it is."""
    eta_ms, expires_ms = _ms(headers.get("eta")), _ms(headers.get("expires"))
    if eta_ms is None and expires_ms is None:
        return body
    return msgspec.json.encode(
        Timed(call=msgspec.Raw(body), eta_ms=eta_ms, expires_ms=expires_ms)
    )


def check_times(body: bytes, now_ms: int) -> None:
    """Put off what is not due yet, refuse what came too late.

    Raises:
        Retry: It is not due yet; uses up no attempt.
        Reject: It has expired.
    """
    if not body.startswith(b"{"):
        return
    try:
        call = _timed(body)
    except msgspec.DecodeError:
        return  # whoever reads the call says what is wrong with it
    if call.expires_ms is not None and call.expires_ms < now_ms:
        raise Reject(f"its sender let it expire at {_text(call.expires_ms)}")
    if call.eta_ms is not None and call.eta_ms > now_ms:
        delay_s = (call.eta_ms - now_ms) / 1000
        raise Retry(f"not due before {_text(call.eta_ms)}", delay_s=delay_s, counts=False)


def reader(
    cls: type, convert: Callable[[dict[str, object]], object]
) -> Callable[[bytes], object]:
    """Read calls as messages of a class.

    Args:
        cls: Of the message.
        convert: Makes one of its fields, and checks them.
    """
    names = _fields(cls)

    def read(body: bytes) -> object:
        return convert(_arguments(_timed(body).call if body.startswith(b"{") else body, names))

    return read


def _arguments(body: bytes | msgspec.Raw, names: Sequence[str]) -> dict[str, object]:
    args, kwargs, embed = _call(body)
    going_on = [name for name in _GOES_ON if (embed or {}).get(name)]
    if going_on:
        msg = f"it has a {going_on[0]}, which only a worker of Celery can go on with"
        raise msgspec.ValidationError(msg)
    if len(args) > len(names):
        msg = f"it has {len(args)} arguments, and there are {len(names)} fields"
        raise msgspec.ValidationError(msg)
    fields = dict(zip(names, args, strict=False))
    twice = sorted(fields.keys() & kwargs.keys())
    if twice:
        msg = f"it has two values for {twice[0]}"
        raise msgspec.ValidationError(msg)
    try:
        return {name: _plain(value) for name, value in (fields | kwargs).items()}
    except (ValueError, TypeError, LookupError) as error:
        msg = f"a value is not what its __type__ says: {error}"
        raise msgspec.ValidationError(msg) from error


def _plain(value: object) -> object:
    """Undo what kombu does to values that JSON does not have."""
    if isinstance(value, list):
        return [_plain(one) for one in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    found = cast("dict[str, Any]", value)
    if found.keys() != {"__type__", "__value__"}:
        return {name: _plain(one) for name, one in found.items()}
    undo = _UNDO.get(found["__type__"])
    return found["__value__"] if undo is None else undo(found["__value__"])


_UNDO: dict[object, Callable[[Any], object]] = {
    "bytes": lambda text: str(text).encode(),
    "base64": lambda text: b64decode(str(text)),
    "uuid": lambda parts: parts["hex"],
}
"""The others are text that a field of their type reads: times, decimals."""


def _fields(cls: Any) -> list[str]:  # noqa: ANN401 - any message class
    """List the fields of a message class as they are called on the wire, in order."""
    for mark in ("__struct_encode_fields__", "__dataclass_fields__", "__pydantic_fields__"):
        if hasattr(cls, mark):
            return list(getattr(cls, mark))
    return [attribute.name for attribute in cls.__attrs_attrs__]


def _ms(text: object) -> int | None:
    if not isinstance(text, str):
        return None
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return round((at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp() * 1000)


def _text(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat(timespec="seconds")
