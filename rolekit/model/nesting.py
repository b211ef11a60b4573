"""How deep a body is nested, measured before it is read where its class does not bound it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_NESTING = 32
"""Containers within containers, the outermost counted."""

_TEXT = re.compile(rb'"(?:[^"\\]+|\\.)*+"?', re.DOTALL)  # to the end, where it is not closed
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")


def is_deep_json(body: bytes) -> bool:
    """Tell whether a JSON body is nested too deep; of a body that is no JSON, say anything.

    The innermost brackets are taken away level by level, in C, so a bad body costs little.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_NESTING:
        return False
    marks = _TEXT.sub(b"", body).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(MAX_NESTING):
        marks = marks.replace(b"[]", b"")
    return b"[]" in marks or marks.count(b"[") > MAX_NESTING


def is_deep_msgpack(body: bytes) -> bool:
    """Tell whether a msgpack body is nested too deep.

    Raises:
        msgspec.DecodeError: It is no msgpack.
        RecursionError: It is nested far too deep.
    """
    if len(body) <= MAX_NESTING:
        return False
    level = _containers([msgspec.msgpack.decode(body)])
    for _ in range(MAX_NESTING):
        level = [inner for each in level for inner in _containers(each)]
    return bool(level)


def _containers(container: Any) -> list[Any]:  # noqa: ANN401 - a list or dict of anything
    items: Iterable[Any] = container
    if isinstance(container, dict):
        items = cast("Mapping[Any, Any]", container).values()
    return [item for item in items if isinstance(item, (list, dict))]


def is_flat(cls: type) -> bool:
    """Tell whether the fields of a class bound its nesting, so that nobody need measure."""
    return _depth_of(msgspec.inspect.type_info(cls), ()) <= MAX_NESTING


def _depth_of(info: Any, outer: tuple[type, ...]) -> int:  # noqa: ANN401 - one of msgspec.inspect's
    """Measure how deep a value of this type can be; past the limit for one without end."""
    kinds = msgspec.inspect
    if isinstance(info, (kinds.AnyType, kinds.RawType, kinds.CustomType)):
        return MAX_NESTING + 1
    cls = getattr(info, "cls", None)
    if cls in outer or len(outer) > MAX_NESTING:
        return MAX_NESTING + 1
    path = (*outer, cls) if cls else outer
    inner = _inner_types(info)
    below = max((_depth_of(each, path) for each in inner), default=0)
    return below if isinstance(info, kinds.UnionType) else below + bool(inner or cls)


def _inner_types(info: Any) -> list[Any]:  # noqa: ANN401 - one of msgspec.inspect's
    if isinstance(info, msgspec.inspect.UnionType):
        return list(info.types)
    if hasattr(info, "fields"):
        return [each.type for each in info.fields]
    if hasattr(info, "item_types"):
        return list(info.item_types)
    names = ("item_type", "key_type", "value_type")
    return [getattr(info, name) for name in names if hasattr(info, name)]
