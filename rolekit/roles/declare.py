"""The decorators: each returns the function it was given, with its options on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from rolekit.errors import AppError
from rolekit.model.message import AnyMessage, enclosing_frame
from rolekit.model.policy import Backoff, Circuit, Rate

if TYPE_CHECKING:
    from types import FrameType

Marker = Literal["handle", "gather", "cron", "every"]


class Options(TypedDict, total=False):
    """What every handler may be told, whatever it takes."""

    name: str
    retry: Backoff | Sequence[Backoff]
    timeout_s: float
    rate: Rate | Sequence[Rate]
    circuit: Circuit
    record: bool
    size: int
    age_s: float
    source: str


_One = AnyMessage | None
_Together = tuple[_One, ...]
"""Different messages at one position."""
_Out = _One | Sequence[_One | _Together]
_Item = AnyMessage | _Together
F = TypeVar(
    "F",
    bound=Callable[..., Awaitable[_Out] | AsyncIterator[_Item] | Iterator[_Item] | _Out],
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a decorator was told; None where the user left the choice to rolekit.

    Attributes:
        marker: Which decorator.
        frame: The function in whose body the role was made; None at module level.
        says_on_dead: Whether it was told `on_dead`.
    """

    marker: Marker
    frame: FrameType | None = None
    name: str = ""
    retry: tuple[Backoff, ...] = ()
    timeout_s: float = 60
    rate: tuple[Rate, ...] = ()
    circuit: Circuit | None = None
    record: bool = False
    size: int | None = None
    age_s: float | None = None
    source: str = ""
    key: tuple[str, ...] = ()
    on_dead: Literal["wait", "skip", "fail"] = "wait"
    says_on_dead: bool = False
    ordered: bool = True
    deadline_s: float | None = None
    when: str = ""
    tz: str = "UTC"
    missed: Literal["once", "skip", "all"] = "once"
    seconds: float = 0


_COMMON = frozenset(Options.__annotations__)
_ALLOWED = {
    "handle": _COMMON | {"key", "on_dead"},
    "gather": _COMMON | {"ordered", "on_dead", "deadline_s"},
}
_ON_DEAD = {"handle": ("wait", "skip"), "gather": ("wait", "skip", "fail")}
_SEVERAL = ("retry", "rate", "key")


@overload
def handle(fn: F, /) -> F: ...
@overload
def handle(
    *,
    key: str | tuple[str, ...] | None = None,
    on_dead: Literal["wait", "skip"] = "wait",
    **options: Unpack[Options],
) -> Callable[[F], F]: ...
def handle(fn: Any = None, /, **options: Any) -> Any:
    """Make a method the handler of the message it takes.

    Args:
        fn: The method, when the decorator is written without brackets.
        options: `key`, fields or properties that order messages; `on_dead`, what a key
            does with a message that died; and those of `Options`.

    Raises:
        AppError: An option is unknown or has a value that makes no sense.
    """
    return _decorate(fn, _declared("handle", enclosing_frame(), options))


@overload
def gather(fn: F, /) -> F: ...
@overload
def gather(
    *,
    ordered: bool = True,
    on_dead: Literal["wait", "skip", "fail"] = "wait",
    deadline_s: float | None = None,
    **options: Unpack[Options],
) -> Callable[[F], F]: ...
def gather(fn: Any = None, /, **options: Any) -> Any:
    """Make a method receive the parts of a split in order, in runs or all at once.

    Args:
        fn: The method, when the decorator is written without brackets.
        options: `ordered`; `on_dead`, what to do at a position that will not come;
            `deadline_s`, when the missing ones count as dead; and those of `Options`.

    Raises:
        AppError: An option is unknown or has a value that makes no sense.
    """
    return _decorate(fn, _declared("gather", enclosing_frame(), options))


def cron(
    when: str, /, *, tz: str = "UTC", missed: Literal["once", "skip", "all"] = "once"
) -> Callable[[F], F]:
    """Call a method at the times of a cron line.

    Args:
        when: Minute, hour, day of month, month, day of week.
        tz: Name of a time zone.
        missed: What to do with times that passed while nothing ran.
    """
    return _marking(
        Declared(marker="cron", when=when, tz=tz, missed=missed, frame=enclosing_frame())
    )


def every(seconds: float, /) -> Callable[[F], F]:
    """Call a method again and again, so many seconds apart."""
    return _marking(Declared(marker="every", seconds=seconds, frame=enclosing_frame()))


def declared_on(fn: object) -> Declared | None:
    """Return what a decorator left on a function, or None."""
    found = getattr(fn, "__rolekit__", None)
    return found if isinstance(found, Declared) else None


def nearest(word: str, known: Sequence[str]) -> str:
    """Return "Did you mean ...?" for a misspelt word, or nothing."""
    close = get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]}?" if close else ""


def _marking(declared: Declared) -> Callable[[F], F]:
    def mark(fn: F) -> F:
        fn.__rolekit__ = declared  # type: ignore[attr-defined]
        return fn

    return mark


def _decorate(fn: F | None, declared: Declared) -> F | Callable[[F], F]:
    if fn is None:
        return _marking(declared)
    if not callable(fn):
        raise AppError(
            f"@{declared.marker}({fn!r}): what it was given is not a method.",
            fix=f"Write @{declared.marker}, or name the option: name={fn!r}.",
        )
    return _marking(declared)(fn)


def _declared(
    marker: Literal["handle", "gather"], frame: FrameType | None, options: dict[str, Any]
) -> Declared:
    unknown = sorted(options.keys() - _ALLOWED[marker])
    if unknown:
        known = sorted(_ALLOWED[marker])
        raise AppError(
            f"@{marker}({unknown[0]}=...): there is no such option, only {', '.join(known)}.",
            fix=nearest(unknown[0], known),
        )
    values: dict[str, Any] = {
        name: _as_tuple(value) if name in _SEVERAL else value for name, value in options.items()
    }
    says = "on_dead" in values
    return _checked(Declared(marker=marker, frame=frame, says_on_dead=says, **values))


def _as_tuple(value: Any) -> tuple[Any, ...]:  # noqa: ANN401 - one policy, or several
    if value is None:
        return ()
    if isinstance(value, (str, Backoff, Rate)):
        return (value,)
    return tuple(value)


def _checked(declared: Declared) -> Declared:
    for name in ("timeout_s", "deadline_s", "size"):
        value = getattr(declared, name)
        if value is not None and value <= 0:
            _refuse(declared, name, "more than 0")
    if declared.age_s is not None and declared.age_s < 0:
        _refuse(declared, "age_s", "0 or more")
    if declared.on_dead not in _ON_DEAD[declared.marker]:
        _refuse(declared, "on_dead", " or ".join(map(repr, _ON_DEAD[declared.marker])))
    return declared


def _refuse(declared: Declared, name: str, expected: str) -> None:
    raise AppError(
        f"@{declared.marker}({name}={getattr(declared, name)!r}): {name} must be {expected}.",
        fix="Change it where the handler is written.",
    )
