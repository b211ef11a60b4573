"""A role's settings: its annotated class attributes of simple types.

Values come as text from a file, the environment or the command line, or as they are from a
test; where they came from, and which wins, is the business of `rolekit.config`.
"""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from enum import Enum
from inspect import get_annotations
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Union, cast, get_args, get_origin

from rolekit.errors import AppError, ConfigError
from rolekit.model.message import Secret
from rolekit.roles.annotations import text_of
from rolekit.roles.base import Role
from rolekit.roles.declare import nearest
from rolekit.roles.worker import WorkerRole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REQUIRED = object()
"""Default of a setting that has none."""

_BUILT_IN: Mapping[str, object] = {
    "instances": int,
    "concurrency": int,
    "bind": str,
    "max_age_s": float,
    "max_messages": int,
    "max_memory_mb": float,
    "start_s": float,
}
"""Settings that every role has by its base class."""

_OURS = (Role.__module__, WorkerRole.__module__, "rolekit.roles.vm", "rolekit.roles.web")
_PLAIN = (str, int, float, bool, Path, Secret)
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One attribute of a role that its surroundings may set.

    Attributes:
        role: Class name of the role.
        name: Of the attribute.
        type: What it is converted to: str, int, float, bool, Path, Secret, an enum, or a
            list of one of them.
        default: What the class says, or `REQUIRED`.
    """

    role: str
    name: str
    type: object
    default: object

    @property
    def is_required(self) -> bool:
        """Whether the role cannot start without a value."""
        return self.default is REQUIRED

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return f"ROLEKIT_{self.role.upper()}__{self.name.upper()}"


def settings_of(role: type[Role]) -> list[Setting]:
    """List the settings of a role, those of its bases first.

    A name that begins with an underscore is none, and neither is a `ClassVar` or an
    attribute of another type: that is a resource.

    Raises:
        AppError: The type of a setting does not exist at run time.
    """
    found = {
        name: Setting(role=role.__name__, name=name, type=kind, default=getattr(role, name))
        for name, kind in _BUILT_IN.items()
        if hasattr(role, name)
    }
    for cls in reversed(role.__mro__):
        if not issubclass(cls, Role) or cls.__module__ in _OURS:
            continue
        for name, kind in _annotated(cls):
            default = getattr(role, name, REQUIRED)
            found[name] = Setting(role=role.__name__, name=name, type=kind, default=default)
    return list(found.values())


def resolved(role: type[Role], values: Mapping[str, object]) -> dict[str, object]:
    """Return the value of every setting of a role: as given, or as the class says.

    Raises:
        ConfigError: As `apply`.
    """
    fresh = role()
    apply(fresh, values)
    return {setting.name: getattr(fresh, setting.name) for setting in settings_of(role)}


def apply(role: Role, values: Mapping[str, object]) -> None:
    """Set a role's settings on an instance, converted to their types.

    Args:
        role: The instance.
        values: By name; text is converted, anything else must have the right type already.

    Raises:
        ConfigError: A value cannot be converted, a name is not a setting, or a setting
            without default has no value.
    """
    settings = {setting.name: setting for setting in settings_of(type(role))}
    for name, value in values.items():
        if name not in settings:
            raise ConfigError(
                f"{type(role).__name__} has no setting {name!r}; "
                f"it has {', '.join(sorted(settings)) or 'none'}.",
                fix=nearest(name, list(settings)),
            )
        setattr(role, name, convert(settings[name], value))
    for setting in settings.values():
        if setting.is_required and setting.name not in values:
            raise ConfigError(
                f"{setting.role}.{setting.name} has no value; expected: "
                f"{_expected(setting.type)}, since the class gives no default.",
                fix=f"Set {setting.variable}, or {setting.name} under [roles.{setting.role}] "
                "in rolekit.toml.",
            )


def convert(setting: Setting, value: object) -> object:
    """Convert one value to the type of its setting.

    A list is read from text by its commas.

    Raises:
        ConfigError: It does not have that type.
    """
    try:
        return _converted(setting.type, value)
    except (ValueError, TypeError) as error:
        shown = "********" if setting.type is Secret else repr(value)
        reason = f" ({error})" if str(error) and setting.type is not Secret else ""
        raise ConfigError(
            f"{setting.role}.{setting.name} is {shown}; expected: "
            f"{_expected(setting.type)}{reason}.",
            fix=f"Change {setting.variable}, or whatever set it.",
        ) from error


def _annotated(cls: type) -> Iterator[tuple[str, object]]:
    for name, hint in get_annotations(cls).items():
        if name.startswith("_"):
            continue
        kind = _resolved(cls, name, hint)
        if get_origin(kind) is not ClassVar and _is_simple(kind):
            yield name, _without_none(kind)


def _resolved(cls: type, name: str, hint: object) -> object:
    if not isinstance(hint, str):
        return hint
    try:
        names = vars(sys.modules[cls.__module__])
        return eval(hint, names, dict(vars(cls)))  # noqa: S307 - the author's own annotation
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        if hint.rpartition(".")[2] in ("Path", "Secret"):
            raise AppError(
                f"{cls.__name__}.{name} is a {hint}, which does not exist at run time.",
                fix=f"Import {hint} at module level, not under `if TYPE_CHECKING:`.",
            ) from error
        return None


def _without_none(kind: object) -> object:
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    members = [each for each in get_args(kind) if each is not type(None)]
    return members[0] if len(members) == 1 else kind


def _is_simple(kind: object) -> bool:
    plain = _without_none(kind)
    if get_origin(plain) is list:
        return _is_simple(get_args(plain)[0])
    if not isinstance(plain, type):
        return False
    return issubclass(plain, Enum) or any(plain is each for each in _PLAIN)


def _converted(kind: object, value: object) -> object:
    if get_origin(kind) is list:
        return [_converted(get_args(kind)[0], item) for item in _listed(value)]
    maker = cast("type", kind)
    if not isinstance(value, str):
        return _as_it_is(maker, value)
    if maker is bool:
        return _truth(value)
    if issubclass(maker, Enum):
        return _member(maker, value)
    make = cast("Callable[[str], object]", maker)
    return make(value)


def _as_it_is(kind: type, value: object) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_flag = isinstance(value, bool) and kind is not bool
    if value is not None and (is_flag or not isinstance(value, kind)):
        raise TypeError(type(value).__name__)
    return value


def _listed(value: object) -> list[object]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, (list, tuple)):
        return list(cast("list[object]", value))
    raise TypeError(type(value).__name__)


def _truth(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered not in (*_TRUE, *_FALSE):
        raise ValueError
    return lowered in _TRUE


def _member(kind: type[Enum], text: str) -> Enum:
    for member in kind:
        if text in (member.name, str(member.value)) or text.lower() == member.name.lower():
            return member
    raise ValueError


def _expected(kind: object) -> str:
    shown = text_of(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(str(member.value) for member in kind)
    if kind is bool:
        return f"bool ({'/'.join(_TRUE)} or {'/'.join(_FALSE)})"
    if get_origin(kind) is list:
        return f"list, with commas, of {_expected(get_args(kind)[0])}"
    return shown
