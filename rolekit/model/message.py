"""What users send: frozen messages, replies, blobs and mutable state."""

from __future__ import annotations

from dataclasses import Field, dataclass
from inspect import CO_OPTIMIZED, currentframe
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeGuard, dataclass_transform

import msgspec
from msgspec import NODEFAULT, StructMeta

from rolekit.errors import AppError

if TYPE_CHECKING:
    from types import FrameType

    # mypy takes the first dataclass transform it meets in the bases, and the one that
    # msgspec declares on Struct knows neither frozen nor keyword-only as a default. So
    # type checkers see the transform of our metaclasses alone.
    _Struct = object
else:
    _Struct = msgspec.Struct


def field(  # Any: it stands where a value of the field's own type is expected
    *,
    default: Any = NODEFAULT,  # noqa: ANN401 - stands for a value of any type
    default_factory: Any = NODEFAULT,  # noqa: ANN401 - stands for a value of any type
    name: str | None = None,
) -> Any:  # noqa: ANN401 - stands for a value of any type
    """Describe a field of a message or state that an annotation alone cannot.

    Args:
        default: Value of a field that is not given.
        default_factory: Called for each message whose field is not given.
        name: What the field is called on the wire.
    """
    make: Any = msgspec.field
    return make(default=default, default_factory=default_factory, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How a class is known outside this process.

    Attributes:
        name: On the wire, in queues and in the database; never the module.
        version: Of its fields.
        aliases: Names under which older senders know it.
        expires_s: Of a state: seconds after its last change; None keeps it.
        frame: The function in whose body the class was made, to find other classes made
            there; None at module level.
    """

    name: str
    version: int = 1
    aliases: tuple[str, ...] = ()
    expires_s: float | None = None
    frame: FrameType | None = None


def enclosing_frame(start: FrameType | None = None) -> FrameType | None:
    """Find the function in whose body the class is made that calls for it.

    Args:
        start: Of the class body; None takes the caller's caller, which is right within a
            metaclass and within a decorator.

    Returns:
        None when the class is made at module level.
    """
    frame = currentframe()
    scope = start or (frame and frame.f_back and frame.f_back.f_back)
    while scope and not scope.f_code.co_flags & CO_OPTIMIZED:
        if scope.f_locals is scope.f_globals:
            return None
        scope = scope.f_back
    return scope


def _checked(wire: Wire) -> Wire:
    if wire.version < 1:
        raise AppError(
            f"{wire.name} has version={wire.version}; a version is 1 or more.",
            fix="Leave version out of a class that never changed.",
        )
    if wire.expires_s is not None and wire.expires_s <= 0:
        raise AppError(
            f"{wire.name} has expires_s={wire.expires_s}; it must be more than 0.",
            fix="Leave expires_s out of a state that is to be kept.",
        )
    return wire


class _Meta(StructMeta):
    """Gives each class its `Wire`."""

    __rolekit_wire__: Wire


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class MessageMeta(_Meta):
    """Makes each subclass of `Message` frozen, keyword-only and known by a wire name."""

    def __new__(  # noqa: PYI034 - Self is not allowed in a metaclass
        mcls,
        cls_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        name: str | None = None,
        version: int = 1,
        aliases: tuple[str, ...] = (),
    ) -> MessageMeta:
        """Make the class; the keywords are those of the class statement."""
        frame = enclosing_frame()
        wire = Wire(name=name or cls_name, version=version, aliases=tuple(aliases), frame=frame)
        cls = super().__new__(mcls, cls_name, bases, namespace, frozen=True, kw_only=True)
        cls.__rolekit_wire__ = _checked(wire)
        return cls


class Message(_Struct, metaclass=MessageMeta):
    """What handlers take and return: frozen, keyword-only, compared by value.

    Class keywords: `name`, the wire name (the class name unless given); `version`, raised
    when fields change in a way that a default cannot bridge; `aliases`, older wire names.
    """

    @classmethod
    def upgrade(cls, fields: dict[str, object], version: int) -> dict[str, object]:
        """Turn the fields of an older body into today's.

        Called only for a body whose version is below the class's.

        Args:
            fields: As decoded, not yet checked.
            version: Of the body.
        """
        del version
        return fields


class Reply(Message):
    """A message for whoever asked or follows; needs no handler."""


class Receipt(Reply):
    """What `send` returns: the id to ask, follow and trace by."""

    id: str


class Blob(Message):
    """Bytes kept once under the name of their content; only this reference travels."""

    id: str
    size_bytes: int
    media_type: str = "application/octet-stream"


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class StateMeta(_Meta):
    """Makes each subclass of `State` keyword-only, mutable and known by a name."""

    def __new__(  # noqa: PYI034 - Self is not allowed in a metaclass
        mcls,
        cls_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        name: str | None = None,
        version: int = 1,
        expires_s: float | None = None,
    ) -> StateMeta:
        """Make the class; the keywords are those of the class statement."""
        frame = enclosing_frame()
        wire = Wire(name=name or cls_name, version=version, expires_s=expires_s, frame=frame)
        cls = super().__new__(mcls, cls_name, bases, namespace, kw_only=True)
        required = len(cls.__struct_fields__) - len(cls.__struct_defaults__)
        if required or NODEFAULT in cls.__struct_defaults__:
            raise AppError(
                f"State {cls_name} has a field without a default; it begins as {cls_name}().",
                fix="Give each field a default, or field(default_factory=...).",
            )
        cls.__rolekit_wire__ = _checked(wire)
        return cls


class State(_Struct, metaclass=StateMeta):
    """What a handler remembers for a key or a sequence; saved with the step if it changed.

    Class keywords: `name`, `version`, and `expires_s`, seconds after the last change.
    """


class Secret(str):
    """A text that does not show itself in `repr`, logs or `rolekit config`."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Hide the text."""
        return "'********'"


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


class _Attrs(Protocol):
    __attrs_attrs__: ClassVar[Any]


class _Pydantic(Protocol):
    __pydantic_fields__: ClassVar[dict[str, Any]]


AnyMessage = Message | _Dataclass | _Attrs | _Pydantic
"""An instance of a message class: of ours, or of one that somebody wrote elsewhere."""


def is_message_class(cls: object) -> TypeGuard[type]:
    """Tell whether instances of `cls` can travel; `Message` and `Reply` themselves cannot."""
    if not isinstance(cls, type) or cls in (Message, Reply):
        return False
    marks = ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__")
    known: object = cls  # a type that is narrowed to type[Unknown] tells pyright nothing
    return issubclass(cls, Message) or any(hasattr(known, mark) for mark in marks)


def wire_of(cls: type) -> Wire:
    """Return how a class is known; a class of somebody else goes by its own name."""
    if isinstance(cls, _Meta):
        return cls.__rolekit_wire__
    return Wire(name=cls.__name__)


def wire_name(cls: type) -> str:
    """Return the name of a class on the wire, without its module."""
    return wire_of(cls).name
