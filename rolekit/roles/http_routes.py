"""The routes of a role class, read and checked without a server."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union, cast

from starlette.responses import Response

from rolekit.errors import AppError
from rolekit.model.message import Message, Reply, is_message_class
from rolekit.roles.http_binding import Parameter, is_kind, parameters_of
from rolekit.web import Mark, marks_of

if TYPE_CHECKING:
    from rolekit.roles.web import WebRole

_ASYNC_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)
_STREAMS = (*_ASYNC_STREAMS, Iterator, Iterable, Generator)
_PATH = re.compile(r"(/([^{}/]|{[A-Za-z_]\w*(:[a-z]+)?})*)+")
_CONVERTORS = ("str", "int", "float", "uuid", "path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route of a role.

    Attributes:
        method: GET, POST, …
        path: As written, "/mail/{id}".
        status: Of an answer with a body.
        name: Of the method.
        parameters: What it takes.
        result: What it is annotated to return, resolved.
        is_stream: It answers with server-sent events.
        in_thread: It is a plain function that may block.
    """

    method: str
    path: str
    status: int
    name: str
    parameters: tuple[Parameter, ...]
    result: object
    is_stream: bool
    in_thread: bool

    @property
    def template(self) -> str:
        """Name the route: "POST /mail"."""
        return f"{self.method} {self.path}"

    @property
    def answers(self) -> tuple[object, ...]:
        """What an answer may be, or an item of its stream: classes, and None."""
        result = typing.get_args(self.result)[0] if self.is_stream else self.result
        return tuple(None if kind is types.NoneType else kind for kind in _members(result))


def routes_of(role: type[WebRole]) -> list[Route]:
    """Read the routes of a role class, those of its bases first.

    Raises:
        AppError: A route or a mount cannot be served; all that is wrong, one to a line.
    """
    routes, problems = _read(role)
    if problems:
        raise AppError("\n".join(map(str, problems)))
    return routes


def problems_of(role: type[WebRole]) -> list[AppError]:
    """Return everything that keeps the routes and mounts of a role from being served."""
    return _read(role)[1]


def _read(role: type[WebRole]) -> tuple[list[Route], list[AppError]]:
    routes: list[Route] = []
    problems: list[AppError] = []
    for name in _marked_names(role):
        function = inspect.getattr_static(role, name)
        for mark in marks_of(function) or _inherited_marks(role, name):
            try:
                routes.append(_route(role, name, function, mark))
            except AppError as problem:
                problems.append(problem)
    problems += _doubles(role, routes)
    problems += _mount_problems(role)
    return routes, problems


def _marked_names(role: type) -> list[str]:
    names: dict[str, None] = {}
    for cls in reversed(role.__mro__):
        for name, value in vars(cls).items():
            if marks_of(value):
                names[name] = None
    return list(names)


def _inherited_marks(role: type, name: str) -> tuple[Mark, ...]:
    found = (marks_of(vars(cls).get(name)) for cls in role.__mro__)
    return next(marks for marks in found if marks)


def _route(role: type, name: str, function: object, mark: Mark) -> Route:
    where = f"{role.__name__}.{name}"
    if not marks_of(function):
        raise AppError(
            f"{where} overrides the route {mark.method} {mark.path} without a decorator.",
            fix=f"Decorate it with web.{mark.method.lower()}(...) again, or rename it.",
        )
    if not inspect.isfunction(function):
        raise AppError(f"{where} is not a method.", fix="Decorate a def or an async def.")
    _check_path(mark, where)
    hints = _hints(function, mark, where)
    if "return" not in hints:
        raise AppError(
            f"{where} does not say what it returns.",
            fix="Annotate the result, with None if so.",
        )
    is_stream = _check_result(hints["return"], where)
    return Route(
        method=mark.method,
        path=mark.path,
        status=mark.status,
        name=name,
        parameters=parameters_of(function, mark, hints, where),
        result=hints["return"],
        is_stream=is_stream,
        in_thread=_blocks(function, hints["return"]),
    )


def _blocks(function: Callable[..., object], result: object) -> bool:
    """Tell whether a call may block; making an async iterator does not."""
    is_plain = not inspect.iscoroutinefunction(function)
    return is_plain and typing.get_origin(result) not in _ASYNC_STREAMS


def _check_path(mark: Mark, where: str) -> None:
    kinds = re.findall(r"{\w+:(\w+)}", mark.path)
    names = re.findall(r"{(\w+)", mark.path)
    if _PATH.fullmatch(mark.path) and len(set(names)) == len(names):
        unknown = [kind for kind in kinds if kind not in _CONVERTORS]
        if not unknown:
            return
    raise AppError(
        f"{where}: {mark.path!r} is not a path.",
        fix='Begin with "/", with each {name} once: "/mail/{id}" or "/files/{rest:path}".',
    )


def _hints(function: Callable[..., object], mark: Mark, where: str) -> Mapping[str, Any]:
    local = dict(mark.frame.f_locals) if mark.frame is not None else None
    try:
        return typing.get_type_hints(function, localns=local, include_extras=True)
    except NameError as error:
        raise AppError(
            f"{where}: its annotations name {error.name}, which does not exist at run time.",
            fix="If it is imported under TYPE_CHECKING, import it outside, and tell ruff: "
            'runtime-evaluated-decorators = ["rolekit.web.get", "rolekit.web.post"].',
        ) from error
    except (TypeError, AttributeError, SyntaxError) as error:
        raise AppError(
            f"{where}: its annotations cannot be read: {error}.", fix="Correct them."
        ) from error


def _check_result(result: object, where: str) -> bool:
    """Tell whether a result is a stream; refuse what cannot be answered with."""
    if typing.get_origin(result) in _STREAMS:
        item = typing.get_args(result)[0]
        if all(_is_message(kind) for kind in _members(item)):
            return True
        raise AppError(
            f"{where} streams {item}; server-sent events are messages.",
            fix="Yield a Message, or return a Response of your own.",
        )
    for kind in _members(result):
        if not (kind in (None, types.NoneType) or is_kind(kind, Response) or _is_message(kind)):
            raise AppError(
                f"{where} returns {kind}; a route returns a message, None, an iterator "
                "of messages or a Response.",
                fix="Return a Message (a Reply if somebody sends it), or a JSONResponse.",
            )
    return False


def _is_message(kind: object) -> bool:
    return kind is Message or kind is Reply or is_message_class(kind)


def _members(kind: object) -> tuple[object, ...]:
    is_union = typing.get_origin(kind) in (Union, types.UnionType)
    return typing.get_args(kind) if is_union else (kind,)


def _doubles(role: type, routes: list[Route]) -> list[AppError]:
    seen: dict[str, str] = {}
    problems: list[AppError] = []
    for route in routes:
        shape = f"{route.method} {re.sub(r'{[^}]*}', '{}', route.path)}"
        if shape in seen:
            problems.append(
                AppError(
                    f"{role.__name__}: {seen[shape]} and {route.name} "
                    f"both answer {route.template}.",
                    fix="Give one of them another path or method.",
                )
            )
        seen[shape] = route.name
    return problems


def _mount_problems(role: type[WebRole]) -> list[AppError]:
    problems: list[AppError] = []
    for prefix, app in cast("Mapping[object, object]", role.mounts).items():
        if not isinstance(prefix, str) or not prefix.startswith("/"):
            problems.append(
                AppError(
                    f"{role.__name__}.mounts: {prefix!r} is not a prefix.",
                    fix='Begin with "/": "/" for all, or "/admin".',
                )
            )
        elif not callable(app):
            problems.append(
                AppError(
                    f"{role.__name__}.mounts[{prefix!r}] is {type(app).__name__}, "
                    "not an ASGI app.",
                    fix="Mount a FastAPI, a Starlette, or another ASGI callable.",
                )
            )
    return problems
