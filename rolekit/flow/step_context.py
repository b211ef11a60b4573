"""The context of one call: collects what the handler wants, until the step commits it."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, LiteralString, ParamSpec, TypeVar, cast
from uuid import UUID

import msgspec

from rolekit.clock import as_datetime
from rolekit.errors import AppError, CodecError, Reject
from rolekit.flow.context import Context, Transaction
from rolekit.model.codec import decode_value, encode_value
from rolekit.model.message import Blob, State, wire_name
from rolekit.store.base import Due, OpenStep, RawTransaction, StateChange, StateKey, Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence

    from rolekit.flow.outputs import Placing
    from rolekit.flow.runtime import Runtime
    from rolekit.flow.submitted import Submitted
    from rolekit.model.envelope import Head, Packet

R = TypeVar("R")
S = TypeVar("S", bound=State)
P = ParamSpec("P")

versions = Random()  # noqa: S311 - nobody gains by guessing one
"""Versions of states: no two alike, also of processes forked from one. Nobody else seeds it."""
os.register_at_fork(after_in_child=versions.seed)


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who a context is for.

    Attributes:
        id: What the handler sees as `ctx.id`.
        key: What it sees as `ctx.key`.
        scope: Whose states `ctx.state` loads.
        handler: Its name.
        timeout_s: How long the call may take.
    """

    id: str
    key: str | None = None
    scope: str
    handler: str
    timeout_s: float


class StepContext(Context[object]):
    """What one call of a handler may do, and did.

    Args:
        runtime: Of this process.
        packet: What is handled.
        head: Of it.
        placing: Names what is sent.
        caller: Who it is for.
    """

    def __init__(
        self,
        runtime: Runtime,
        packet: Packet,
        head: Head,
        placing: Placing,
        caller: Caller,
    ) -> None:
        self._runtime = runtime
        self._packet = packet
        self._head = head
        self._placing = placing
        self._caller = caller
        self._until = asyncio.get_running_loop().time() + caller.timeout_s
        self._states: dict[StateKey, tuple[int, bytes, State, bool]] = {}
        self._changed: list[StateChange] | None = None
        self._open: OpenStep | None = None
        self.writes: list[Write] = []
        self.sent: list[Packet] = []
        self.later: list[Due] = []

    @property
    def id(self) -> str:
        """Id of the message, in a gather of the run."""
        return self._caller.id

    @property
    def root_id(self) -> str:
        """Id of the message from outside that caused this one."""
        return self._head.root

    @property
    def key(self) -> str | None:
        """Key of a keyed handler, in a gather of the sequence."""
        return self._caller.key

    @property
    def attempt(self) -> int:
        """1 for the first."""
        return self._head.attempts.failures + self._head.attempts.crashes + 1

    @property
    def sent_at(self) -> dt.datetime:
        """When the message was sent."""
        return as_datetime(self._head.sent_at_ms)

    @property
    def now(self) -> dt.datetime:
        """The time by rolekit's clock."""
        return as_datetime(self._runtime.clock.now_ms())

    @property
    def time_left_s(self) -> float:
        """Seconds until this call is cancelled."""
        return max(self._until - asyncio.get_running_loop().time(), 0.0)

    @property
    def headers(self) -> Mapping[str, str]:
        """What travels on."""
        return self._head.headers

    @property
    def has_effects(self) -> bool:
        """Whether anything was asked for that must be recorded."""
        return bool(
            self.writes
            or self.sent
            or self.later
            or self._open
            or (self._states and self.changed_states())
        )

    def write(self, sql: LiteralString, /, *args: object, expect: int | None = None) -> None:
        """Buffer a statement; it runs when the step commits."""
        self.writes.append(Write(sql, args, expect))

    def send(
        self,
        message: object,
        /,
        *,
        delay_s: float = 0,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Send a message beside what is returned; return its id."""
        id_, packets = self._placing.beside(message, headers or {})
        if delay_s > 0:
            due_ms = self._runtime.clock.now_ms() + round(delay_s * 1000)
            self.later += [Due(packet, due_ms) for packet in packets]
        else:
            self.sent += packets
        return id_

    async def tx(self) -> Transaction:
        """Open the transaction of this step, its inbox row first."""
        if self._open is None:
            p = self._packet
            self._open = await self._runtime.store.begin(p.id, p.generation, p.birth_ms or 0)
        return TypedTransaction(self._open.transaction)

    async def state(self, cls: type[S], /, key: str | None = None) -> S:
        """Load a state; changes to it are saved with the step."""
        whose = key if key is not None else self._caller.key
        if whose is None:
            raise AppError(
                f"ctx.state({cls.__name__}) needs a key here: the handler has none of its own.",
                fix=f"Say whose it is: ctx.state({cls.__name__}, key=...).",
            )
        if "\x00" in whose or _is_broken(whose):
            raise Reject(
                f"ctx.state({cls.__name__}) got a key that no database can keep: {whose!r}."
            )
        at = StateKey(self._caller.scope, wire_name(cls), whose)
        held = self._states.get(at)
        if held is not None and isinstance(held[2], cls):
            return held[2]
        version, body, is_kept = await self._runtime.states.take(at, self)
        try:
            state = cls() if body is None else decode_value(cls, body)
            before = encode_value(state) if body is None else body
        except BaseException:
            self._runtime.states.put(at, self)
            raise
        self._states[at] = (version, before, state, is_kept)
        return state

    async def once(
        self,
        name: str,
        result: type[R],
        call: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Keep what `call` returns for this message, in a commit of its own."""
        store, id_ = self._runtime.store, self._caller.id
        # A direct step keeps the id, so the next handler's results need names of their own.
        full_name = f"{self._caller.handler}:{name}"
        kept = await store.recall(id_, full_name)
        if kept is None:
            value = await call(*args, **kwargs)
            kept = await store.remember(id_, full_name, encode_value(value))
        return decode_value(result, kept)

    async def save(self, data: bytes | AsyncIterable[bytes], /, media_type: str = "") -> Blob:
        """Keep bytes under the name of their content."""
        return await self._runtime.blobs.save(data, media_type)

    async def load(self, blob: Blob, /) -> bytes:
        """Return the bytes of a blob."""
        return await self._runtime.blobs.load(blob)

    def changed_states(self) -> list[StateChange]:
        """Return the states that are not as they were loaded, and those to be checked.

        Asked when the call is over: what it changes later is no part of its step.
        """
        if self._changed is not None:
            return self._changed
        changes: list[StateChange] = []
        self._changed = changes
        for key, (version, before, state, is_kept) in self._states.items():
            body = encode_value(state)
            if body != before or is_kept:
                token, is_change = versions.getrandbits(62) | 1, body != before
                changes.append(StateChange(key, version, body, token, is_change))
        return changes

    async def rests_on_facts(self) -> bool:
        """Say whether the states that were taken without being read are what is stored.

        A step that commits has their versions checked; one that fails asks here, or it would
        fail for what somebody else has changed, or what was never committed.
        """
        taken = {key: v for key, (v, _, _, is_kept) in self._states.items() if is_kept}
        if not taken:
            return True
        found = await self._runtime.store.load_states(list(taken))
        wrong = [key for key, version in taken.items() if found.get(key, (0,))[0] != version]
        for key in wrong:
            self._runtime.states.doubt(key)
        return not wrong

    def hand_on(self, changes: Sequence[StateChange], outcome: Submitted) -> None:
        """Let others go on from the states of this step, which was submitted."""
        for change in changes:
            self._runtime.states.put(change.key, self, change, outcome)

    @property
    def open_step(self) -> OpenStep | None:
        """The transaction that `tx` opened."""
        return self._open

    async def abandon(self) -> None:
        """Roll back what `tx` opened, and give back the states that were not handed on."""
        for key in self._states:
            self._runtime.states.put(key, self)
        opened, self._open = self._open, None
        if opened is not None:
            await opened.abandon()


def _is_broken(text: str) -> bool:
    """Whether text has halves of surrogate pairs, which UTF-8 cannot carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


class TypedTransaction:
    """A transaction that converts rows to what the caller asks for."""

    def __init__(self, raw: RawTransaction) -> None:
        self._raw = raw

    @property
    def driver_connection(self) -> object:
        """The connection of the driver beneath."""
        return self._raw.driver_connection

    async def execute(self, sql: LiteralString, /, *args: object) -> int:
        """Run a statement; return how many rows it touched."""
        return await self._raw.execute(sql, args)

    async def fetch(self, into: type[R], sql: LiteralString, /, *args: object) -> list[R]:
        """Return all rows, each converted to `into`."""
        return [_converted(into, row) for row in await self._raw.fetch(sql, args)]

    async def fetch_one(self, into: type[R], sql: LiteralString, /, *args: object) -> R | None:
        """Return the first row converted to `into`, or None."""
        rows = await self._raw.fetch(sql, args)
        return _converted(into, rows[0]) if rows else None


_NATIVE = (bytes, dt.datetime, dt.date, dt.time, dt.timedelta, UUID, Decimal)
_SCALARS: frozenset[type] = frozenset({int, float, str, bool, *_NATIVE})
_DICT: frozenset[type] = frozenset({dict})


def _converted(into: type[R], row: Mapping[str, object]) -> R:
    """Convert a row: its only column for a scalar, all by name otherwise."""
    is_single = into in _SCALARS or (len(row) == 1 and not hasattr(into, "__annotations__"))
    if into in _DICT:
        return cast("R", dict(row))
    value: object = next(iter(row.values())) if is_single else dict(row)
    try:
        return msgspec.convert(value, into, strict=False, builtin_types=_NATIVE)
    except msgspec.ValidationError as error:
        raise CodecError(
            f"A row with columns {', '.join(row)} is no {into.__name__}: {error}.",
            fix="Select the columns that its fields are named after.",
        ) from error
