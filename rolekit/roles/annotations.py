"""What annotations say: which parameter is the message, what comes out of a handler."""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from rolekit.flow.context import Context
from rolekit.model.message import is_message_class
from rolekit.model.parts import Batch, DeadLetter, Hole, Run

if TYPE_CHECKING:
    from rolekit.model.plan import Call, Shape, Together

_ASYNC_ITERATORS = (AsyncIterator, AsyncIterable, AsyncGenerator)
_ITERATORS = (Iterator, Iterable, Generator)
_LISTS = (list, tuple, Sequence)
_OURS = (Hole, Run, Batch, DeadLetter)

_RUFF = (
    "[tool.ruff.lint.flake8-type-checking] runtime-evaluated-decorators = "
    '["rolekit.handle", "rolekit.gather", "rolekit.cron", "rolekit.every", '
    '"rolekit.web.get", "rolekit.web.post"]'
)


class Unreadable(Exception):
    """An annotation that rolekit cannot use; says what was found and what was expected."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(found)
        self.found = found
        self.fix = fix


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What one parameter is for.

    Attributes:
        name: Of the parameter.
        role: What a call gives it.
        classes: Message classes it admits; of a context, those that may be sent.
        dead: Classes whose dead letters it admits.
        holes: Whether a run admits `Hole`.
        whole: Whether a run is a `list`.
    """

    name: str
    role: Literal["message", "context", "run", "batch"]
    classes: tuple[type, ...] = ()
    dead: tuple[type, ...] = ()
    holes: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What comes out of a handler.

    Attributes:
        call: How to run the method.
        shape: How outputs come out of it.
        classes: Message classes among them.
        may_drop: Whether None is one of them.
        together: Where tuples are among them: what each may be, as in `HandlerPlan`.
    """

    call: Call
    shape: Shape
    classes: tuple[type, ...]
    may_drop: bool
    together: tuple[Together, ...] = ()


def hints_of(fn: Callable[..., object], names: Mapping[str, object] | None) -> dict[str, Any]:
    """Resolve the annotations of a function.

    Args:
        fn: Its own module's names are known.
        names: Locals of the function in which its class was made, if any.

    Raises:
        Unreadable: A name does not exist at run time.
    """
    try:
        return get_type_hints(fn, localns=dict(names or {}))
    except NameError as error:
        raise Unreadable(
            f"an annotation names {error.name}, which does not exist at run time.",
            f"Import {error.name} at module level, not under `if TYPE_CHECKING:`; "
            f"ruff leaves it there with {_RUFF}.",
        ) from error
    except (TypeError, AttributeError, SyntaxError) as error:
        raise Unreadable(
            f"an annotation cannot be evaluated: {error}.",
            "Write it so that typing.get_type_hints understands it.",
        ) from error


def read_parameter(name: str, hint: object, *, in_gather: bool) -> Parameter:
    """Say what a parameter is for, by its annotation.

    Raises:
        Unreadable: It is not for anything a handler is given.
    """
    origin = get_origin(hint)
    if Context in (hint, origin):
        return Parameter(name=name, role="context", classes=_sendable(name, hint))
    if origin is Run or (origin is list and in_gather):
        return _run(name, hint, whole=origin is list)
    if origin is Batch:
        classes, dead = _messages(name, hint, get_args(hint)[0])
        if dead:
            raise Unreadable(
                f"the parameter {name} is annotated {text_of(hint)}; dead letters come one by "
                "one.",
                f"Take {text_of(get_args(hint)[0])} in a method of its own.",
            )
        return Parameter(name=name, role="batch", classes=classes)
    classes, dead = _messages(name, hint, hint)
    return Parameter(name=name, role="message", classes=classes, dead=dead)


def read_result(fn: Callable[..., object], hint: object) -> Result:
    """Say what comes out of a handler, by its `def` and the annotation of its result.

    Raises:
        Unreadable: It is nothing a handler may return.
    """
    is_async = iscoroutinefunction(fn) or isasyncgenfunction(fn)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Awaitable, Coroutine):
        return read_result(_awaited, args[-1])
    if origin in _ASYNC_ITERATORS:
        return _result("async_iterator", "iterator", args[0])
    if origin in _ITERATORS:
        if is_async:
            raise Unreadable(
                f"returns {text_of(hint)} from `async def`.",
                f"Make it AsyncIterator[{text_of(args[0])}], or list[{text_of(args[0])}].",
            )
        return _result("iterator", "iterator", args[0])
    call: Call = "async" if is_async else "sync"
    if origin in _LISTS and not _is_fixed(hint):
        return _result(call, "list", args[0])
    return _result(call, "one", hint)


def read_batch_result(fn: Callable[..., object], hint: object) -> Result:
    """Say what comes out of a handler of `Batch[T]` for each item: output i for input i.

    Raises:
        Unreadable: It is neither nothing nor one list.
    """
    given = [each for each in _members(hint) if each is not type(None)]
    call: Call = "async" if iscoroutinefunction(fn) else "sync"
    if not given:
        return _result(call, "one", hint)
    items = given[0]
    if len(given) > 1 or get_origin(items) not in _LISTS or _is_fixed(items):
        raise Unreadable(
            f"takes a Batch and returns {text_of(hint)}.",
            "Return None, or a list as long as the batch, such as list[Done | None]: output i "
            "for input i.",
        )
    return _result(call, "one", get_args(items)[0])


def text_of(hint: object) -> str:
    """Write a type as its author would."""
    if hint is type(None):
        return "None"
    if isinstance(hint, type) and not get_args(hint):
        return hint.__name__
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(text_of(each) for each in get_args(hint))
    if get_args(hint):
        inner = ", ".join(text_of(each) for each in get_args(hint))
        return f"{text_of(get_origin(hint))}[{inner}]"
    return str(hint).removeprefix("typing.")


async def _awaited() -> None:
    """Stand for a plain function that returns something to await."""


def _members(hint: object) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_message(hint: object) -> bool:
    return is_message_class(hint) and hint not in _OURS


def _messages(
    name: str, whole: object, hint: object
) -> tuple[tuple[type, ...], tuple[type, ...]]:
    """Sort the members of a union into messages and those whose dead letters are meant."""
    plain: list[type] = []
    dead: list[type] = []
    for member in _members(hint):
        if get_origin(member) is DeadLetter and _is_message(get_args(member)[0]):
            dead.append(get_args(member)[0])
        elif _is_message(member):
            plain.append(member)
        else:
            raise Unreadable(
                f"the parameter {name} is annotated {text_of(whole)}, and {text_of(member)} is "
                "no message.",
                "A handler takes one message, or a union of them, and a Context if it wants; "
                "a gather a Run[...] or list[...] beside.",
            )
    return tuple(plain), tuple(dead)


def _run(name: str, hint: object, *, whole: bool) -> Parameter:
    members = [each for item in get_args(hint) for each in _members(item)]
    parts = [each for each in members if each is not Hole]
    for part in parts:
        if not _is_message(part):
            raise Unreadable(
                f"the parameter {name} is annotated {text_of(hint)}, and {text_of(part)} is no "
                "message.",
                "The parts of a run are messages, and Hole where one may be missing.",
            )
    if not parts:
        raise Unreadable(
            f"the parameter {name} is annotated {text_of(hint)}, which names no message.",
            "Say which messages are its parts, such as Run[Delivered | Hole].",
        )
    return Parameter(
        name=name, role="run", classes=tuple(parts), holes=Hole in members, whole=whole
    )


def _sendable(name: str, hint: object) -> tuple[type, ...]:
    classes = [each for item in get_args(hint) for each in _members(item)]
    for cls in classes:
        if not _is_message(cls):
            raise Unreadable(
                f"the parameter {name} is annotated {text_of(hint)}, and {text_of(cls)} "
                "is no message.",
                "Name the messages that ctx.send may send, or write Context.",
            )
    return tuple(classes)


def _result(call: Call, shape: Shape, hint: object) -> Result:
    members = [each for each in _members(hint) if each is not type(None)]
    positions = tuple(_together(hint, member) for member in members)
    classes = dict.fromkeys(cls for each in positions for item in each for cls in item)
    return Result(
        call=call,
        shape=shape,
        classes=tuple(classes),
        may_drop=len(members) < len(_members(hint)),
        together=positions if any(map(_is_fixed, members)) else (),
    )


def _is_fixed(hint: object) -> bool:
    """Whether it is `tuple[A, B]`, messages at one position, and not `tuple[A, ...]`."""
    return get_origin(hint) is tuple and Ellipsis not in get_args(hint)


def _together(hint: object, member: object) -> Together:
    """Read what stands at one position: a message, or a tuple of different ones."""
    if not _is_fixed(member):
        return (_item(hint, member),)
    items = tuple(classes for each in get_args(member) if (classes := _item(hint, each)))
    counts = Counter(cls for item in items for cls in dict.fromkeys(item))
    twice = [cls.__name__ for cls, count in counts.items() if count > 1]
    if twice or not items:
        found = f"{twice[0]} is in it twice" if twice else "it names no message"
        raise Unreadable(
            f"returns {text_of(hint)}, but {found}.",
            "A tuple puts different messages at one position; a list or an iterator gives "
            "each a position of its own.",
        )
    return items


def _item(hint: object, item: object) -> tuple[type, ...]:
    """Return the classes that one message may be of, None left out."""
    members = [each for each in _members(item) if each is not type(None)]
    for member in members:
        if not _is_message(member):
            raise Unreadable(
                f"returns {text_of(hint)}, and {text_of(member)} is no message.",
                "Return a message, None, a tuple of different messages, or a list or iterator "
                "of those; a class of yours derives from Message or is a dataclass.",
            )
    return tuple(members)
