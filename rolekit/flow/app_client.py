"""The client of a running app: sends, asks, follows; and the request scopes of its fronts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast, overload
from uuid import uuid4

import structlog

from rolekit.errors import (
    IntakeFull,
    KeyInUse,
    KeyReused,
    RolekitError,
    TimedOut,
    Unroutable,
)
from rolekit.flow.replies import Answers, ReplyHub, failed, wire_names_of
from rolekit.flow.request import Saved, UnknownId, event_cursor, last_event_id
from rolekit.model.envelope import Head, Packet, encode_head
from rolekit.model.ids import body_hash, derive, keyed
from rolekit.model.message import AnyMessage, Blob, Receipt, Reply, wire_name
from rolekit.store.base import Commit, Due, KeyRow
from rolekit.store.base import Reply as ReplyRow

if TYPE_CHECKING:
    from rolekit.flow.client import A, B, Executes
    from rolekit.flow.outbox import Outbox
    from rolekit.flow.runtime import Runtime

log = structlog.get_logger("rolekit.client")

CHUNK = 500
LOOK_EVERY_S = 1.0
HEX = frozenset("0123456789abcdef")
ID_CHARS = 32


class _Scope:
    """What one request has sent so far, held back until it commits."""

    def __init__(self, client: AppClient, key: KeyRow | None, prior: Saved | None) -> None:
        self._client = client
        self._key = key
        self._prior = prior
        self._slot = 0
        self.packets: list[Packet] = []
        self.later: list[Due] = []

    @property
    def prior(self) -> Saved | None:
        """The reply an earlier request with this key was given."""
        return self._prior

    def next_root(self) -> str:
        """Name the next message of this request: with a key, as its repeat would."""
        self._slot += 1
        return uuid4().hex if self._key is None else derive(self._key.key, "sent", self._slot)

    async def flush(self) -> None:
        """Let what was held back leave now, since somebody waits for it."""
        packets, self.packets = self.packets, []
        later, self.later = self.later, []
        await self._client.leave(packets, later, None)

    async def commit(self, reply: Saved | None) -> Saved | None:
        """Let everything leave, in one commit with key and reply."""
        if self._key is None:
            await self.flush()
            return reply
        key = KeyRow(key=self._key.key, body_hash=self._key.body_hash, reply=reply)
        other = await self._client.leave(self.packets, self.later, key)
        if other is None:
            return reply
        _check_hash(other, self._key.body_hash)
        return other.reply


_scope: ContextVar[_Scope | None] = ContextVar("request_scope", default=None)


def _check_hash(row: KeyRow, hash_: str) -> None:
    if row.body_hash != hash_:
        raise KeyReused(
            "This idempotency key came before with another body.",
            fix="Send the same body again, or take a new key.",
        )


class AppClient:
    """Sends into the app that `runtime` describes; keeps `Client` and `Requests`.

    Args:
        runtime: Of this process.
        outbox: Publishes what the store committed, where the transport does not join.
        intake_limit: Messages waiting in one queue above which nothing more is taken.
    """

    def __init__(
        self, runtime: Runtime, outbox: Outbox | None, *, intake_limit: int = 1_000_000
    ) -> None:
        self._runtime = runtime
        self._outbox = outbox
        self._limit = intake_limit
        self._full: dict[str, bool] = {}
        self._looked_at: dict[str, float] = {}
        self._keys: set[str] = set()
        self._answers = Answers(runtime)
        self._hub = ReplyHub(runtime.store, runtime.bell)

    async def run(self) -> None:
        """Read replies for whoever follows, until cancelled."""
        try:
            await self._hub.run()
        finally:
            await asyncio.shield(self._answers.close())

    # -- sending -----------------------------------------------------------------------------

    async def send(
        self,
        message: AnyMessage,
        /,
        *,
        idempotency_key: str | None = None,
        delay_s: float = 0,
        headers: Mapping[str, str] | None = None,
        stream: str | None = None,
        via: Executes | None = None,
    ) -> Receipt:
        """Send one message; return when it is durable, or with the request it is part of."""
        _refuse_later_parts(stream, via)
        if idempotency_key is not None:
            return await self._send_keyed(message, idempotency_key, delay_s, headers)
        scope = _scope.get()
        root = uuid4().hex if scope is None else scope.next_root()
        packets = await self._packets(message, root, headers)
        now, later = ([], self._due(packets, delay_s)) if delay_s > 0 else (packets, [])
        if scope is None:
            await self.leave(now, later, None)
        else:
            scope.packets += now
            scope.later += later
        return Receipt(id=root)

    async def send_many(
        self, messages: Iterable[AnyMessage] | AsyncIterable[AnyMessage], /
    ) -> list[Receipt]:
        """Send many; return when all are durable, with one receipt each, in order."""
        receipts: list[Receipt] = []
        packets: list[Packet] = []
        async for message in _each(messages):
            root = uuid4().hex
            packets += await self._packets(message, root, None)
            receipts.append(Receipt(id=root))
            if len(packets) >= CHUNK:
                await self.leave(packets, [], None)
                packets = []
        await self.leave(packets, [], None)
        return receipts

    async def _send_keyed(
        self,
        message: AnyMessage,
        key: str,
        delay_s: float,
        headers: Mapping[str, str] | None,
    ) -> Receipt:
        _, _, body = self._runtime.codec.encode(message)
        root = keyed(self._runtime.plan.name, "send", wire_name(type(message)), key)
        packets = await self._packets(message, root, headers)
        now, later = ([], self._due(packets, delay_s)) if delay_s > 0 else (packets, [])
        row = KeyRow(key=root, body_hash=body_hash(body))
        other = await self.leave(now, later, row)
        if other is not None:
            _check_hash(other, row.body_hash)
        return Receipt(id=root)

    async def leave(
        self, packets: list[Packet], later: list[Due], key: KeyRow | None
    ) -> KeyRow | None:
        """Make packets durable; return the earlier request with this key, if there was one."""
        if key is None and not later:
            if packets:
                await self._runtime.transport.publish(packets)
            return None
        commit, other = await self._runtime.store.accept(packets, later, key)
        self._announce(commit, has_later=bool(later))
        return other

    def _announce(self, commit: Commit, *, has_later: bool) -> None:
        if commit.leaving and self._outbox is not None:
            self._outbox.leave(commit.leaving)
        self._runtime.bell.ring(commit.topics | ({"~schedule"} if has_later else set()))

    def _due(self, packets: list[Packet], delay_s: float) -> list[Due]:
        due_ms = self._runtime.clock.now_ms() + round(delay_s * 1000)
        return [Due(packet, due_ms) for packet in packets]

    async def _packets(
        self,
        message: AnyMessage,
        root: str,
        headers: Mapping[str, str] | None,
        reply_to: str = "",
    ) -> list[Packet]:
        """Build one packet for each handler that takes the message.

        Raises:
            Unroutable: There is none.
            IntakeFull: Too much waits for one of them.
        """
        plan, codec = self._runtime.plan, self._runtime.codec
        name, version, body = codec.encode(message)
        targets = [
            target
            for target in plan.destinations.get(type(message), ())
            if plan.handlers[target].kind != "gather"
        ]
        if not targets:
            raise Unroutable(
                f"No handler of {plan.name} takes a {name}.",
                fix="Add the role that does, or send what one takes.",
            )
        await self._check_intake(targets)
        head = encode_head(
            Head(
                type=name,
                type_version=version,
                codec=codec.default,
                root=root,
                sent_at_ms=self._runtime.clock.now_ms(),
                headers=dict(headers or {}),
                reply_to=reply_to,
            )
        )
        ids = [root] if len(targets) == 1 else [derive(root, target) for target in targets]
        return [
            Packet(queue=target, id=id_, head=head, body=body)
            for target, id_ in zip(targets, ids, strict=True)
        ]

    async def _check_intake(self, targets: list[str]) -> None:
        now = time.monotonic()
        stale = [name for name in targets if now - self._looked_at.get(name, 0) > LOOK_EVERY_S]
        if stale:
            self._looked_at.update(dict.fromkeys(stale, now))
            depths = await self._runtime.transport.depths(stale)
            for name, depth in depths.items():
                self._full[name] = depth.waiting >= self._limit
        if any(self._full.get(name) for name in targets):
            raise IntakeFull(
                f"{self._limit} messages wait for {', '.join(targets)} already.",
                fix="Come back later; or scale the role up.",
            )

    # -- answers -----------------------------------------------------------------------------

    @overload
    async def ask(self, message: AnyMessage, a: type[A], /, *, timeout_s: float = 30) -> A: ...
    @overload
    async def ask(
        self, message: AnyMessage, a: type[A], b: type[B], /, *, timeout_s: float = 30
    ) -> A | B: ...
    async def ask(
        self,
        message: AnyMessage,
        a: type[A],
        b: type[B] | None = None,
        /,
        *,
        timeout_s: float = 30,
    ) -> A | B:
        """Send, and wait for the first reply of these classes."""
        root = uuid4().hex
        await self._flush()
        await self._answers.open()
        wanted = (a,) if b is None else (a, b)
        packets = await self._packets(message, root, None, self._runtime.reply_queue)
        async with self._answers.asking(root, wanted) as future:
            await self.leave(packets, [], None)
            try:
                async with asyncio.timeout(timeout_s):
                    return cast("A | B", await future)
            except TimeoutError:
                raise _timed_out(root, timeout_s) from None

    async def follow(
        self,
        sent: Receipt | str,
        *more: type[Reply],
        until: type[Reply],
        timeout_s: float = 3600,
    ) -> AsyncIterator[Any]:
        """Yield the replies of these classes as they come, up to one of `until`."""
        root = _root_of(sent)
        await self._flush()
        wanted = set(wire_names_of(self._runtime.plan.wire_names, [*more, until]))
        after = _number(last_event_id.get())
        async with self._hub.follow(root, after) as following:
            try:
                async with asyncio.timeout(timeout_s):
                    while True:
                        reply = await following.arrived.get()
                        if reply.is_failure:
                            raise failed(reply.body)
                        if reply.type not in wanted:
                            continue
                        message = self._decoded(reply)
                        event_cursor.set(str(reply.n))
                        yield message
                        if isinstance(message, until):
                            return
            except TimeoutError:
                raise _timed_out(root, timeout_s) from None

    async def result(self, sent: Receipt | str, a: type[A], /) -> A | None:
        """Return the newest reply of a class, or None while there is none."""
        root = _root_of(sent)
        await self._flush()
        names = wire_names_of(self._runtime.plan.wire_names, [a])
        reply = await self._runtime.store.last_reply(root, names)
        if reply is None:
            return None
        if reply.is_failure:
            raise failed(reply.body)
        return cast("A", self._decoded(reply))

    def _decoded(self, reply: ReplyRow) -> object:
        return self._runtime.codec.decode(
            reply.type, reply.type_version, reply.codec, reply.body
        )

    # -- blobs -------------------------------------------------------------------------------

    async def save(self, data: bytes | AsyncIterable[bytes], /, media_type: str = "") -> Blob:
        """Keep bytes under the name of their content."""
        return await self._runtime.blobs.save(data, media_type)

    async def load(self, blob: Blob, /) -> bytes:
        """Return the bytes of a blob."""
        return await self._runtime.blobs.load(blob)

    # -- request scopes ------------------------------------------------------------------------

    @asynccontextmanager
    async def scope(
        self, *, key: str | None, route: str, caller: str, body_hash: str
    ) -> AsyncGenerator[_Scope]:
        """Begin a request: what it sends is held back until its scope commits."""
        row: KeyRow | None = None
        prior: Saved | None = None
        if key is not None:
            name = keyed(self._runtime.plan.name, "request", route, caller, key)
            row = KeyRow(key=name, body_hash=body_hash)
            if name in self._keys:
                raise KeyInUse(
                    "The first request with this idempotency key is still under way.",
                    fix="Send it again in a moment.",
                )
            self._keys.add(name)
        try:
            if row is not None:
                found = await self._runtime.store.find_key(row.key)
                if found is not None:
                    _check_hash(found, body_hash)
                    prior = found.reply
            token = _scope.set(_Scope(self, row, prior))
            try:
                yield cast("_Scope", _scope.get())
            finally:
                _scope.reset(token)
        finally:
            if row is not None:
                self._keys.discard(row.key)

    async def _flush(self) -> None:
        scope = _scope.get()
        if scope is not None:
            await scope.flush()


def _refuse_later_parts(stream: str | None, via: Executes | None) -> None:
    if stream is not None or via is not None:
        what = "stream=" if stream is not None else "via="
        raise RolekitError(f"client.send({what}...) is not available yet.", fix="Leave it out.")


def _root_of(sent: Receipt | str) -> str:
    root = sent if isinstance(sent, str) else sent.id
    if len(root) != ID_CHARS or not HEX.issuperset(root):
        raise UnknownId(
            f"{root[:64]!r} is no id: 32 hexadecimal digits are expected.",
            fix="Pass on the id of the receipt that `send` returned.",
        )
    return root


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _timed_out(root: str, timeout_s: float) -> TimedOut:
    return TimedOut(
        f"No reply to {root} came within {timeout_s:g} s.",
        receipt_id=root,
        fix="It may still come; ask for longer, or send and follow instead.",
    )


async def _each(
    messages: Iterable[AnyMessage] | AsyncIterable[AnyMessage],
) -> AsyncIterator[AnyMessage]:
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            yield message
    else:
        for message in messages:
            yield message
