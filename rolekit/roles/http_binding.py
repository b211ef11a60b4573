"""Parameters of a route's method: recognised by annotation and name, filled from a request."""

from __future__ import annotations

import datetime as dt
import enum
import inspect
import re
import types
import typing
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, Union, cast
from uuid import UUID

import msgspec
from starlette.requests import Request

from rolekit.errors import AppError
from rolekit.model.message import is_message_class
from rolekit.roles.http_problems import BadInput, FieldError, WrongMedia

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rolekit.web import Mark

Source: TypeAlias = Literal["path", "query", "message", "bytes", "request"]

REQUIRED: Final = inspect.Parameter.empty

_SCALARS = (str, int, float, bool, UUID, Decimal, dt.datetime, dt.date, dt.time, dt.timedelta)
_BODILESS = ("GET", "DELETE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument of a route's method.

    Attributes:
        name: As in the signature.
        source: Where its value comes from.
        kind: What the value is converted to.
        default: Of a query parameter that is not sent, or `REQUIRED`.
    """

    name: str
    source: Source
    kind: Any
    default: object = REQUIRED


def parameters_of(
    function: Callable[..., object], mark: Mark, hints: Mapping[str, Any], where: str
) -> tuple[Parameter, ...]:
    """Read the parameters of a method, and check them against its path.

    Args:
        function: The method, not bound.
        mark: Its route.
        hints: Its annotations, resolved.
        where: "MailFront.compose", for sentences.

    Raises:
        AppError: A parameter cannot be filled from a request to this route.
    """
    placeholders = set(re.findall(r"{(\w+)(?::\w+)?}", mark.path))
    found: list[Parameter] = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise AppError(
                f"{where}: {parameter} cannot be filled from a request.",
                fix="Name each parameter: path, query, one message or bytes, Request.",
            )
        found.append(_parameter(parameter, placeholders, hints, where))
    _check_together(found, placeholders, mark, where)
    return tuple(found)


def _parameter(
    parameter: inspect.Parameter, placeholders: set[str], hints: Mapping[str, Any], where: str
) -> Parameter:
    name = parameter.name
    if name not in hints:
        raise AppError(f"{where}: {name} has no annotation.", fix=f"Write {name}: str, or so.")
    kind = hints[name]
    source = _source(name, kind, placeholders)
    if source is None:
        raise AppError(
            f"{where}: {name} is {_spell(kind)}, which cannot be read from a request.",
            fix="Take a message, bytes, Request, or a scalar such as str, int or UUID.",
        )
    default = parameter.default if source == "query" else REQUIRED
    return Parameter(name=name, source=source, kind=kind, default=default)


def _source(name: str, kind: object, placeholders: set[str]) -> Source | None:
    if name in placeholders:
        return "path" if _is_scalar(kind) else None
    if is_kind(kind, Request):
        return "request"
    if kind is bytes:
        return "bytes"
    if is_message_class(kind):
        return "message"
    return "query" if _is_scalar(without_none(kind)) else None


def _is_scalar(kind: object) -> bool:
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _is_scalar(typing.get_args(kind)[0])
    if origin is Literal:
        return True
    return is_kind(kind, *_SCALARS, enum.Enum)


def is_kind(kind: object, *bases: type) -> bool:
    """Tell whether an annotation is a class under one of these."""
    return isinstance(kind, type) and issubclass(kind, bases)


def without_none(kind: object) -> object:
    """Return X for `X | None`, and anything else as it is."""
    if typing.get_origin(kind) in (Union, types.UnionType):
        rest = [arg for arg in typing.get_args(kind) if arg is not types.NoneType]
        return rest[0] if len(rest) == 1 else kind
    return kind


def _check_together(
    found: list[Parameter], placeholders: set[str], mark: Mark, where: str
) -> None:
    bodies = [item for item in found if item.source in ("message", "bytes")]
    if len(bodies) > 1:
        names = " and ".join(item.name for item in bodies)
        raise AppError(
            f"{where}: {names} both want the body of the request.",
            fix="Take one message with the fields of both.",
        )
    if bodies and mark.method in _BODILESS:
        raise AppError(
            f"{where}: {mark.method} requests have no body, but {bodies[0].name} wants one.",
            fix="Use web.post, or take single values from the query.",
        )
    missing = placeholders - {item.name for item in found}
    if missing:
        raise AppError(
            f"{where}: the path {mark.path} has {{{min(missing)}}}, "
            "but the method has no such parameter.",
            fix=f"Add {min(missing)}: str to the method, or take it out of the path.",
        )


def _spell(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def read_scalars(parameters: tuple[Parameter, ...], request: Request) -> dict[str, object]:
    """Convert what path and query say.

    Raises:
        BadInput: With every value that does not fit, not only the first.
    """
    values: dict[str, object] = {}
    errors: list[FieldError] = []
    for item in parameters:
        if item.source not in ("path", "query"):
            continue
        given = request.path_params if item.source == "path" else request.query_params
        where = f"{item.source}.{item.name}"
        try:
            values[item.name] = _scalar(item, given)
        except LookupError:
            errors.append(FieldError(where, "is missing"))
        except msgspec.ValidationError as error:
            errors.append(FieldError(where, _sentence(str(error))))
    if errors:
        raise BadInput(errors)
    return values


def _scalar(item: Parameter, given: Mapping[str, object]) -> object:
    if item.name not in given:
        if item.default is REQUIRED:
            raise LookupError(item.name)
        return item.default
    # None cannot be written in a URL, and msgspec would read the text "null" as one
    return msgspec.convert(given[item.name], without_none(item.kind), strict=False)


def read_message(kind: type, data: bytes, content_type: str) -> object:
    """Decode a body.

    Raises:
        WrongMedia: It is not JSON.
        BadInput: It is not this message; with the path of the field.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media and media != "application/json" and not media.endswith("+json"):
        raise WrongMedia(f"The body is {media}; this route reads application/json.")
    if hasattr(kind, "__pydantic_fields__"):
        return _read_pydantic(kind, data)
    try:
        return cast("object", msgspec.json.decode(data, type=kind))
    except msgspec.DecodeError as error:
        raise BadInput([_field_error(str(error))]) from error
    except (RecursionError, UnicodeDecodeError) as error:
        text = "is nested too deep" if isinstance(error, RecursionError) else "is not UTF-8"
        raise BadInput([FieldError("body", text)]) from error


def _read_pydantic(kind: type, data: bytes) -> object:
    try:
        return cast("Any", kind).model_validate_json(data)
    except ValueError as error:  # pydantic's own is one; rolekit does not depend on it
        listed = getattr(error, "errors", list[Any])()
        errors = [
            FieldError("body" + "".join(_step(step) for step in item["loc"]), item["msg"])
            for item in listed
        ]
        raise BadInput(errors or [FieldError("body", str(error))]) from error


def _step(step: object) -> str:
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def _field_error(text: str) -> FieldError:
    """Split msgspec's "Expected `int`, got `str` - at `$.lines[0]`"."""
    message, _, place = text.partition(" - at `$")
    return FieldError("body" + place.rstrip("`"), _sentence(message))


def _sentence(text: str) -> str:
    return text.partition(" - at `$")[0].replace("`", "")
