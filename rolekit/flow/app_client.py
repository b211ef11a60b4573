"""The client of a running app: sends, asks, follows; and the request scopes of its fronts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast, overload

import structlog

from rolekit.errors import (
    KeyInUse,
    RolekitError,
    TimedOut,
)
from rolekit.flow.chunks import Chunks
from rolekit.flow.intake import Intake, Scope, check_hash, current_scope
from rolekit.flow.replies import Answers, ReplyHub, failed, wire_names_of
from rolekit.flow.request import Saved, UnknownId, event_cursor, last_event_id
from rolekit.flow.streaming import check_stream_options
from rolekit.model.ids import body_hash, is_given_by, keyed
from rolekit.model.message import AnyMessage, Blob, Receipt, Reply, wire_name
from rolekit.store.base import KeyRow
from rolekit.store.base import Reply as ReplyRow

if TYPE_CHECKING:
    from rolekit.flow.client import A, B
    from rolekit.flow.outbox import Outbox
    from rolekit.flow.runtime import Runtime
    from rolekit.observe.meters import FlowMeters
    from rolekit.store.base import Executes

log = structlog.get_logger("rolekit.client")

LOOK_EVERY_S = 1.0
HEX = frozenset("0123456789abcdef")
ID_CHARS = 32


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
        self._intake = Intake(runtime, outbox, intake_limit)
        self._keys: set[str] = set()
        self._answers = Answers(runtime)
        self._hub = ReplyHub(runtime.store, runtime.bell)

    def count_with(self, meters: FlowMeters) -> None:
        """Count what is sent."""
        self._intake.meters = meters

    async def run(self) -> None:
        """Read replies for whoever follows, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hub.run())
                tasks.create_task(self._intake.reminder.run())
        finally:
            await asyncio.shield(self._close())

    async def _close(self) -> None:
        await self._intake.close()
        await self._answers.close()

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
        if stream is not None:
            check_stream_options(delay_s, via)
            return await self._send_streamed(message, idempotency_key, headers, stream)
        if via is not None and idempotency_key is not None:
            raise _key_and_via()
        if idempotency_key is not None:
            return await self._send_keyed(message, idempotency_key, delay_s, headers)
        scope = current_scope.get()
        root = self._intake.root() if scope is None else scope.next_root()
        packets = await self._intake.packets(message, root, headers)
        now, later = ([], self._intake.due(packets, delay_s)) if delay_s > 0 else (packets, [])
        if via is not None:
            await self._intake.join(via, now, later)
        elif scope is None:
            await self._intake.leave(now, later, None)
        else:
            scope.packets += now
            scope.later += later
        return Receipt(id=root)

    async def _send_streamed(
        self,
        message: AnyMessage,
        key: str | None,
        headers: Mapping[str, str] | None,
        stream: str,
    ) -> Receipt:
        scope, intake = current_scope.get(), self._intake
        row: KeyRow | None = None
        if key is not None:
            row = self._key_row(message, key)
            root = intake.root(row.key)
        else:
            root = intake.root() if scope is None else scope.next_root()
        done: asyncio.Future[None] | None = None
        async with intake.streams.in_order:
            beside, streamed = await intake.streamed(message, root, headers, stream)
            if row is None and scope is None:
                done = intake.streams.submit(beside, streamed)
            elif row is None and scope is not None:
                scope.packets += beside
                scope.streamed += streamed
        if row is not None:
            other = await intake.leave(beside, [], row, streamed)
            if other is not None:
                check_hash(other, row.body_hash)
        if done is not None:
            await done
        return Receipt(id=root)

    async def send_many(
        self, messages: Iterable[AnyMessage] | AsyncIterable[AnyMessage], /
    ) -> list[Receipt]:
        """Send many; return when all are durable, with one receipt each, in order."""
        receipts: list[Receipt] = []
        leaving, intake = Chunks(self._intake), self._intake
        admitted: set[type] = set()
        try:
            async for some in _at_once(messages):
                for message in some:
                    if type(message) not in admitted:
                        await intake.admit(type(message))
                        admitted.add(type(message))
                    root = intake.root()
                    if leaving.add(intake.build(message, root)):
                        await leaving.let_go()
                        admitted.clear()
                    receipts.append(Receipt(id=root))
            await leaving.finish()
        finally:
            await leaving.abandon()
        return receipts

    async def _send_keyed(
        self,
        message: AnyMessage,
        key: str,
        delay_s: float,
        headers: Mapping[str, str] | None,
    ) -> Receipt:
        row = self._key_row(message, key)
        root = self._intake.root(row.key)
        packets = await self._intake.packets(message, root, headers)
        now, later = ([], self._intake.due(packets, delay_s)) if delay_s > 0 else (packets, [])
        other = await self._intake.leave(now, later, row)
        if other is not None:
            check_hash(other, row.body_hash)
        return Receipt(id=root)

    def _key_row(self, message: AnyMessage, key: str) -> KeyRow:
        _, _, body = self._runtime.codec.encode(message)
        name = keyed(self._runtime.plan.name, "send", wire_name(type(message)), key)
        return KeyRow(key=name, body_hash=body_hash(body))

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
        root = self._intake.root()
        await self._flush()
        await self._answers.open()
        wanted = (a,) if b is None else (a, b)
        packets = await self._intake.packets(message, root, None, self._runtime.reply_queue)
        async with self._answers.asking(root, wanted) as future:
            await self._intake.leave(packets, [], None)
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
        if not self._is_ours(root) and not await self._runtime.store.replies({root: 0}, 1):
            raise _never_sent(root)
        async with self._hub.follow(root, after) as following:
            try:
                async with asyncio.timeout(timeout_s):
                    while True:
                        reply = await following.arrived.get()
                        if reply.is_failure:
                            self._received(reply)
                            raise failed(reply.body)
                        if reply.type not in wanted:
                            continue
                        self._received(reply)
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
            if not self._is_ours(root):
                raise _never_sent(root)
            return None
        if reply.is_failure:
            raise failed(reply.body)
        return cast("A", self._decoded(reply))

    def _received(self, reply: ReplyRow) -> None:
        if self._runtime.tracing is not None and reply.trace:
            self._runtime.tracing.received(reply.trace, reply.type, reply.root)

    def _is_ours(self, root: str) -> bool:
        return is_given_by(self._runtime.plan.name, root)

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
    ) -> AsyncGenerator[Scope]:
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
                    check_hash(found, body_hash)
                    prior = found.reply
            token = current_scope.set(Scope(self._intake, row, prior))
            try:
                yield cast("Scope", current_scope.get())
            finally:
                current_scope.reset(token)
        finally:
            if row is not None:
                self._keys.discard(row.key)

    async def _flush(self) -> None:
        scope = current_scope.get()
        if scope is not None:
            await scope.flush()


def _key_and_via() -> RolekitError:
    return RolekitError(
        "client.send got both idempotency_key= and via=: whether it was sent before is for the "
        "transaction of via= to know.",
        fix="Insert the key into a table of yours, where it is unique, in that transaction.",
    )


def _root_of(sent: Receipt | str) -> str:
    root = sent if isinstance(sent, str) else sent.id
    if len(root) != ID_CHARS or not HEX.issuperset(root):
        raise UnknownId(
            f"{root[:64]!r} is no id: 32 hexadecimal digits are expected.",
            fix="Pass on the id of the receipt that `send` returned.",
        )
    return root


def _never_sent(root: str) -> UnknownId:
    return UnknownId(
        f"Nothing was ever sent here under {root}.",
        fix="Pass on the id of the receipt that `send` returned.",
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _timed_out(root: str, timeout_s: float) -> TimedOut:
    return TimedOut(
        f"No reply to {root} came within {timeout_s:g} s.",
        receipt_id=root,
        fix="It may still come; ask for longer, or send and follow instead.",
    )


async def _at_once(
    messages: Iterable[AnyMessage] | AsyncIterable[AnyMessage],
) -> AsyncIterator[Iterable[AnyMessage]]:
    """Yield what is there at once as it is: each step of this costs more than a message."""
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            yield (message,)
    else:
        yield messages
