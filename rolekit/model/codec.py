"""Messages as bytes, JSON or msgpack; what comes back is checked against its class.

Encoders and decoders are made once for a class, since this runs for every message. Each
limit is checked before the work it bounds.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache, partial
from inspect import get_annotations
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, get_args, get_type_hints

import msgspec

from rolekit.errors import CodecError, UnknownType
from rolekit.model import celery
from rolekit.model.envelope import MAX_BODY_BYTES, CodecName
from rolekit.model.message import Message, wire_name, wire_of
from rolekit.model.nesting import MAX_NESTING, is_deep_json, is_deep_msgpack, is_flat

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

R = TypeVar("R")

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ENCODERS: Mapping[CodecName, Callable[[object], bytes]] = {
    "json": msgspec.json.Encoder().encode,
    "msgpack": msgspec.msgpack.Encoder().encode,
}
_GENERIC: Mapping[CodecName, Callable[[bytes], object]] = {
    "json": msgspec.json.Decoder().decode,
    "msgpack": msgspec.msgpack.Decoder().decode,
}


class _Writer(NamedTuple):
    name: str
    version: int
    encode: Callable[[Any], bytes]


class Codec:
    """Turns an app's messages into bytes and back.

    Args:
        types: Wire name or alias to class.
        wire_names: Class to wire name. A class is itself only: its subclass is another.
        default: How bodies are encoded; both forms are read.
    """

    def __init__(
        self,
        types: Mapping[str, type],
        wire_names: Mapping[type, str],
        default: CodecName = "json",
    ) -> None:
        self._types = types
        self._wire_names = wire_names
        self._default: CodecName = default
        self._writers: dict[type, _Writer] = {}
        self._readers: dict[tuple[str, int, str], Callable[[bytes], object]] = {}

    def prepare(self) -> None:
        """Make what every class takes to be read and written now, for processes to share."""
        for name, cls in self._types.items():
            with suppress(TypeError, CodecError):  # said when such a message comes
                self._reader(name, wire_of(cls).version, self._default)
        for cls in self._wire_names:
            self._writer(cls)

    @property
    def default(self) -> CodecName:
        """How bodies are encoded."""
        return self._default

    def encode(self, message: object) -> tuple[str, int, bytes]:
        """Encode one message.

        Returns:
            Wire name, version of the class, body.

        Raises:
            UnknownType: No handler of the app takes or returns this class.
            CodecError: A field holds what cannot be encoded, or the body is too large.
        """
        name, version, write = self._writers.get(type(message)) or self._writer(type(message))
        try:
            body = write(message)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise CodecError(
                f"A {name} cannot be encoded: {error}.",
                fix="Fields hold text, numbers, bytes, times, collections and messages.",
            ) from error
        if len(body) > MAX_BODY_BYTES:
            raise _oversized(name, len(body))
        return name, version, body

    def decode(
        self,
        type: str,  # noqa: A002 - the public name
        version: int,
        codec: str,
        body: bytes,
    ) -> object:
        """Decode one message and check it against its class.

        A body of an older version goes through the class's `upgrade` first.

        Args:
            type: Wire name or alias.
            version: Of the class that encoded the body.
            codec: "json" or "msgpack".
            body: As it came.

        Raises:
            UnknownType: The app has no such class, or an older version of it.
            CodecError: The body is not such a message; says at which field.
        """
        if len(body) > MAX_BODY_BYTES:
            raise _oversized(type, len(body))
        read = self._readers.get((type, version, codec)) or self._reader(type, version, codec)
        try:
            return read(body)
        except _UNREADABLE as error:
            raise CodecError(
                f"The body of a {type} cannot be read: {error}.",
                fix="Compare what its sender writes with the fields of the class.",
            ) from error

    def _writer(self, cls: type) -> _Writer:
        name = self._wire_names.get(cls)
        if name is None:
            raise UnknownType(
                f"A {wire_name(cls)} cannot be sent: no handler takes or returns it.",
                fix="A subclass is another message; write a handler that takes it.",
            )
        encode = _ENCODERS[self._default]
        if _is_pydantic(cls):
            encode = _pydantic_encoder(encode)
        writer = _Writer(name, wire_of(cls).version, encode)
        self._writers[cls] = writer
        return writer

    def _reader(self, type_: str, version: int, codec: str) -> Callable[[bytes], object]:
        cls = self._types.get(type_)
        if cls is None:
            raise UnknownType(
                f"No message of this app is called {type_!r}.",
                fix="Upgrade this host, or give the class that replaced it an alias.",
            )
        current = wire_of(cls).version
        if not 1 <= version <= current:
            raise UnknownType(
                f"A {type_} of version {version} came; this app knows 1 to {current}.",
                fix="Upgrade this host.",
            )
        if codec == celery.CODEC:
            read = self._readers[type_, version, codec] = _task(cls)
            return read
        if codec not in _GENERIC:
            raise CodecError(
                f"The body of a {type_} is encoded as {codec!r}; json and msgpack are read.",
                fix="Encode it as JSON.",
            )
        name: CodecName = "msgpack" if codec == "msgpack" else "json"
        read = _current(cls, name) if version == current else _older(cls, name, version)
        self._readers[type_, version, codec] = read
        return read


def encode_value(value: object) -> bytes:
    """Encode a result of `ctx.once`, or a state, as JSON.

    Raises:
        CodecError: It holds what cannot be encoded.
    """
    try:
        if _is_pydantic(type(value)):
            return _pydantic_encoder(_ENCODERS["json"])(value)
        return _ENCODERS["json"](value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError(
            f"A {type(value).__name__} cannot be kept: {error}.",
            fix="Keep text, numbers, bytes, times, collections and messages.",
        ) from error


def decode_value(cls: type[R], data: bytes) -> R:
    """Decode what `encode_value` made, and check it against `cls`.

    Raises:
        CodecError: The bytes are not a `cls`, for instance since the class changed.
    """
    try:
        value: R = _value_reader(cast("Hashable", cls))(data)
    except _UNREADABLE as error:
        name = getattr(cls, "__name__", str(cls))
        raise CodecError(
            f"What was kept as a {name} cannot be read: {error}.",
            fix="A class that changed needs defaults for its new fields.",
        ) from error
    return value


def resolve_fields(cls: type) -> None:
    """Let a class made inside a function name others made there, in its fields.

    msgspec looks names up in the module of a class, where these are not. Does nothing for
    other classes, and leaves alone what it cannot find, so that msgspec says what is missing.
    """
    frame = wire_of(cls).frame
    if frame is None:
        return
    try:
        hints = get_type_hints(cls, localns=dict(frame.f_locals), include_extras=True)
    except (NameError, TypeError, AttributeError):
        return
    own = cls.__annotations__
    own.update({name: hints[name] for name in own if name in hints})
    for hint in hints.values():
        _resolve_within(hint)


def _resolve_within(hint: object) -> None:
    if isinstance(hint, type) and issubclass(hint, Message) and _has_text(hint):
        resolve_fields(hint)
    for inner in get_args(hint):
        _resolve_within(inner)


def _has_text(cls: type) -> bool:
    return any(isinstance(value, str) for value in get_annotations(cls).values())


def what_is_wrong(cls: type) -> str:
    """Say why messages of a class could not be decoded, or nothing when they can be."""
    if _is_pydantic(cls):
        return ""
    resolve_fields(cls)
    try:
        msgspec.json.Decoder(cls)
    except (NameError, TypeError) as error:
        return str(error)
    return ""


def _oversized(name: str, size: int) -> CodecError:
    return CodecError(
        f"The body of a {name} takes {size} bytes; {MAX_BODY_BYTES} are allowed.",
        fix="Save the bytes as a Blob and send that.",
    )


@lru_cache(maxsize=512)
def _value_reader(cls: Any) -> Callable[[bytes], Any]:  # noqa: ANN401 - any type form
    if isinstance(cls, type):
        resolve_fields(cls)
        if _is_pydantic(cls):
            return _checked_by_pydantic(cls, _GENERIC["json"])
    return msgspec.json.Decoder(cls).decode


def _current(cls: type, codec: CodecName) -> Callable[[bytes], object]:
    resolve_fields(cls)
    if _is_pydantic(cls):
        return _bounded(_checked_by_pydantic(cls, _GENERIC[codec]), codec)
    made: Any = msgspec.json.Decoder if codec == "json" else msgspec.msgpack.Decoder
    read: Callable[[bytes], object] = made(cls).decode
    return read if is_flat(cls) else _bounded(read, codec)


def _older(cls: Any, codec: CodecName, version: int) -> Callable[[bytes], object]:  # noqa: ANN401 - any type form
    resolve_fields(cls)

    def read(body: bytes) -> object:
        fields = _GENERIC[codec](body)
        if not isinstance(fields, dict):
            msg = f"Expected `object`, got `{type(fields).__name__}`"
            raise msgspec.ValidationError(msg)
        upgraded = cls.upgrade(fields, version)
        return msgspec.convert(upgraded, cls, builtin_types=_builtin(codec))

    return _bounded(read, codec)


def _task(cls: Any) -> Callable[[bytes], object]:  # noqa: ANN401 - any type form
    """Read tasks of Celery; what bytes are was said by whoever wrote them."""
    resolve_fields(cls)
    converted = partial(msgspec.convert, type=cls, builtin_types=(bytes,))
    convert = _validated(cls) if _is_pydantic(cls) else converted
    return _bounded(celery.reader(cls, convert), "json")


def _builtin(codec: CodecName) -> tuple[type, ...]:
    """Name the types that a codec hands over as they are; JSON has text for them."""
    return (bytes,) if codec == "msgpack" else ()


def _is_pydantic(cls: type) -> bool:
    return hasattr(cls, "__pydantic_fields__")


def _pydantic_encoder(encode: Callable[[object], bytes]) -> Callable[[Any], bytes]:
    return lambda message: encode(message.model_dump(mode="json"))


def _checked_by_pydantic(
    cls: Any,  # noqa: ANN401 - any type form
    generic: Callable[[bytes], object],
) -> Callable[[bytes], Any]:
    validated = _validated(cls)
    return lambda body: validated(generic(body))


def _validated(cls: Any) -> Callable[[Any], object]:  # noqa: ANN401 - any type form
    def validate(value: object) -> object:
        try:
            return cls.model_validate(value)
        except ValueError as error:
            raise msgspec.ValidationError(_first_of(error)) from error

    return validate


def _first_of(error: Any) -> str:  # noqa: ANN401 - pydantic's
    first = error.errors(include_url=False, include_context=False)[0]
    path = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in first["loc"])
    return f"{first['msg']} - at `${path}`"


def _bounded(read: Callable[[bytes], object], codec: CodecName) -> Callable[[bytes], object]:
    """Look at the nesting first, of a class whose fields do not bound it."""
    is_deep = is_deep_json if codec == "json" else is_deep_msgpack

    def bounded(body: bytes) -> object:
        if is_deep(body):
            msg = f"it is nested deeper than {MAX_NESTING} levels"
            raise msgspec.ValidationError(msg)
        return read(body)

    return bounded
