"""Decorating what type checkers refuse, to see what rolekit says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from rolekit import handle

F = TypeVar("F", bound=Callable[..., object])


def unchecked(fn: Callable[..., object]) -> Callable[..., object]:
    """Decorate what type checkers refuse, to see what rolekit says."""
    loose: Any = handle
    made: Callable[..., object] = loose(fn)
    return made


def without(name: str) -> Callable[[F], F]:
    """Take an annotation away."""

    def strip(fn: F) -> F:
        del fn.__annotations__[name]
        return fn

    return strip
