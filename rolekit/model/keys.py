"""Keys of messages, and the partitions that keep their order.

Keys are text, made of named fields or properties, so any sender can compute them. Each key
belongs to one partition of a role, and each partition is a queue.

Source: DESIGN "Order (b)"; API "Keys".
"""

from __future__ import annotations

import datetime as dt
import re
from enum import Enum
from hashlib import blake2b
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from rolekit.errors import CodecError
from rolekit.model.message import wire_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_KEY_CHARS = 500
MAX_PARTITIONS = 1000
_PLAIN = (str, int, UUID, dt.date, Enum)
_KINDS = "str, int, UUID, date or an enum"
_PARTITION = re.compile(r"(.+)~k(\d{2,3})")


def key_of(message: object, names: Sequence[str]) -> str:
    """Return the key of a message.

    Args:
        message: Any message.
        names: Of the fields or properties that make it; several are joined, so that no two
            different keys run together.

    Raises:
        CodecError: One of them holds what cannot be a key.
    """
    texts = [_text(message, name) for name in names]
    if len(texts) > 1:
        texts = [text.replace("\\", "\\\\").replace("|", "\\|") for text in texts]
    key = "|".join(texts)
    if len(key) > MAX_KEY_CHARS or "\x00" in key or _is_broken(key):
        raise _no_key(
            message,
            names,
            f"it is {key[:50]!r}, {len(key)} characters",
            f"At most {MAX_KEY_CHARS} characters, no NUL and no half of a surrogate pair.",
        )
    return key


def _text(message: object, name: str) -> str:
    value = getattr(message, name)
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, _PLAIN) or isinstance(value, dt.datetime):
        kind = type(value).__name__
        raise _no_key(message, [name], f"{name} is {value!r} ({kind})", f"A key is {_KINDS}.")
    return str(value)


def _no_key(message: object, names: Sequence[str], why: str, fix: str) -> CodecError:
    made_of = ", ".join(names)
    return CodecError(
        f"A {type(message).__name__} has no key by {made_of}: {why}.",
        fix=fix,
    )


def _is_broken(text: str) -> bool:
    """Whether text has halves of surrogate pairs, which UTF-8 cannot carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def partition_of(key: str, partitions: int) -> int:
    """Return the number of the partition of a key; the same in every process."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions


def partition_queue(role: str, number: int) -> str:
    """Name the queue of a partition."""
    return f"{role}~k{number:02}"


def partition_in(queue: str) -> tuple[str, int] | None:
    """Return role and number of a partition's queue; None: it is another queue."""
    found = _PARTITION.fullmatch(queue)
    return None if found is None else (found[1], int(found[2]))


def unfit(cls: type, name: str) -> str:
    """Say why a field or property of a class cannot make a key, or nothing when it can.

    What is wrong only at times, such as a property without annotation that returns a list,
    is found when a message is sent.
    """
    hints = _hints(cls)
    found: object = getattr(cls, name, None)
    if isinstance(found, property):
        hint = _hints(found.fget).get("return")
        return "" if hint is None else _unfit_type(hint)
    if name not in hints or name.startswith("_"):
        fields = [each for each in hints if not each.startswith("_")]
        return f"which has no such field or property, only {', '.join(fields) or 'none'}"
    return _unfit_type(hints[name])


def _hints(of: Any) -> dict[str, Any]:  # noqa: ANN401 - a class or a function
    frame = wire_of(of).frame if isinstance(of, type) else None
    try:
        return get_type_hints(of, localns=dict(frame.f_locals) if frame else None)
    except (NameError, TypeError, AttributeError):
        return dict(getattr(of, "__annotations__", {}))


def _unfit_type(hint: object) -> str:
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return next((why for why in map(_unfit_member, members) if why), "")


def _unfit_member(member: Any) -> str:  # noqa: ANN401 - any type form
    if member is type(None):
        return "where it may be None, which is no key"
    if (
        member is Any
        or isinstance(member, str)
        or (isinstance(member, type) and _is_plain(member))
    ):
        return ""
    name = getattr(member, "__name__", str(member))
    return f"where it is a {name}; a key is {_KINDS}"


def _is_plain(cls: type) -> bool:
    return issubclass(cls, _PLAIN) and not issubclass(cls, dt.datetime)
