"""A context that records, and makers of what handlers are given: for tests of one method."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, LiteralString, ParamSpec, TypeVar, cast

from rolekit.errors import RolekitError
from rolekit.flow.context import Context, Transaction
from rolekit.guest import Guest
from rolekit.model.codec import decode_value, encode_value
from rolekit.model.ids import keyed
from rolekit.model.message import Blob, State
from rolekit.model.parts import Batch, Run

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence

R = TypeVar("R")
S = TypeVar("S", bound=State)
P = ParamSpec("P")

_NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that a handler sent beside what it returned."""

    message: object
    delay_s: float = 0


class FakeContext(Context[object]):
    """Fits every `Context[...]`, and records what a handler does with it.

    Nothing commits: a handler that raises leaves what it recorded before.

    Args:
        id: Of the message.
        key: Of a keyed handler.
        attempt: 1 for the first.
        now: The time, also that at which the message was sent.
        states: What `state` finds, by class.
        headers: Of the message.

    Attributes:
        writes: Statements, each with its arguments, in order.
        sent: Messages, in order.
        states: All states that were given or asked for.
    """

    def __init__(
        self,
        *,
        id: str = "m1",  # noqa: A002 - the public name
        key: str | None = None,
        attempt: int = 1,
        now: dt.datetime | None = None,
        states: Sequence[State] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._id = id
        self._key = key
        self._attempt = attempt
        self._now = now or _NOW
        self._headers = dict(headers or {})
        self._kept: dict[str, bytes] = {}
        self._blobs: dict[str, bytes] = {}
        self._other_keys: dict[tuple[type[State], str], State] = {}
        self.states: list[State] = list(states)
        self.writes: list[tuple[str, tuple[object, ...]]] = []
        self.sent: list[Sent] = []

    @property
    def id(self) -> str:
        """As given."""
        return self._id

    @property
    def root_id(self) -> str:
        """The id itself: nothing came before."""
        return self._id

    @property
    def key(self) -> str | None:
        """As given."""
        return self._key

    @property
    def attempt(self) -> int:
        """As given."""
        return self._attempt

    @property
    def sent_at(self) -> dt.datetime:
        """The same as `now`."""
        return self._now

    @property
    def now(self) -> dt.datetime:
        """As given, or the first of January 2026."""
        return self._now

    @property
    def time_left_s(self) -> float:
        """The default time-out, always."""
        return 60

    @property
    def headers(self) -> Mapping[str, str]:
        """As given."""
        return self._headers

    def write(self, sql: LiteralString, /, *args: object, expect: int | None = None) -> None:
        """Record a statement; it runs nowhere, so `expect` always holds."""
        del expect
        self.writes.append((sql, args))

    def send(
        self,
        message: object,
        /,
        *,
        delay_s: float = 0,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Record a message."""
        del headers
        self.sent.append(Sent(message, delay_s))
        return keyed(self._id, str(len(self.sent)))

    async def tx(self) -> Transaction:
        """Refuse: there is no database.

        Raises:
            RolekitError: Always.
        """
        raise RolekitError(
            "FakeContext has no database, so ctx.tx() cannot answer.",
            fix="Test this handler with run_app and the fixture rolekit_database.",
        )

    async def state(self, cls: type[S], /, key: str | None = None) -> S:
        """Return the state of this class that was given, or a new one.

        A key other than the handler's has a state of its own.
        """
        if key is not None and key != self._key:
            return cast("S", self._other_keys.setdefault((cls, key), cls()))
        for state in self.states:
            if type(state) is cls:
                return state
        fresh = cls()
        self.states.append(fresh)
        return fresh

    async def once(
        self,
        name: str,
        result: type[R],
        call: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Call, or return what an earlier call under this name left, through its bytes."""
        if name not in self._kept:
            self._kept[name] = encode_value(await call(*args, **kwargs))
        return decode_value(result, self._kept[name])

    async def save(self, data: bytes | AsyncIterable[bytes], /, media_type: str = "") -> Blob:
        """Keep bytes in memory."""
        whole = data if isinstance(data, bytes) else b"".join([part async for part in data])
        name = sha256(whole).hexdigest()
        self._blobs[name] = whole
        if not media_type:
            return Blob(id=name, size_bytes=len(whole))
        return Blob(id=name, size_bytes=len(whole), media_type=media_type)

    async def load(self, blob: Blob, /) -> bytes:
        """Return bytes that were saved here; for any other blob, so many zeros."""
        return self._blobs.get(blob.id, bytes(blob.size_bytes))


def run_of(*parts: R, offset: int = 0, is_last: bool = True) -> Run[R]:
    """Make a run of these parts, the whole sequence unless told otherwise."""
    return Run(parts, id=f"run-{offset}", source_id="m1", offset=offset, is_last=is_last)


def batch_of(*items: R) -> Batch[R]:
    """Make a batch of these items."""
    return Batch(items, ids=[f"m{number}" for number, _ in enumerate(items, 1)])


def set_guest(role: object, name: str, guest: object, /) -> None:
    """Give an instance of a role a guest: anything with the methods its handlers use.

    Raises:
        RolekitError: The role declares no guest of that name.
    """
    declared = getattr(type(role), name, None)
    if not isinstance(declared, Guest):
        names = [each for each in dir(type(role)) if _is_guest(role, each)]
        raise RolekitError(
            f"{type(role).__name__} has no guest {name!r}, only: {', '.join(names) or 'none'}.",
            fix="Name the class attribute that holds the Guest(...).",
        )
    cast("Guest[object]", declared).place(role, guest)


def _is_guest(role: object, name: str) -> bool:
    return isinstance(getattr(type(role), name, None), Guest)
