"""The way in: packets for what is sent, durable when `leave` returns; and request scopes."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from rolekit.errors import IntakeFull, KeyReused, RolekitError, Unavailable, Unroutable
from rolekit.flow.addressing import addressed
from rolekit.flow.drawing import draw_root
from rolekit.flow.joined import Reminder
from rolekit.flow.other_apps import packet_for
from rolekit.flow.streaming import Streaming
from rolekit.grouped import Grouped
from rolekit.model.envelope import Head, Packet
from rolekit.model.graph_streams import ways_of
from rolekit.model.ids import derive, given_by
from rolekit.model.message import wire_name
from rolekit.store.base import Accept, Commit, Due, KeyRow, Saved, Streamed
from rolekit.transport.base import outside_queue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.flow.outbox import Outbox
    from rolekit.flow.runtime import Runtime
    from rolekit.model.message import AnyMessage
    from rolekit.model.plan import AppPlan
    from rolekit.observe.meters import FlowMeters
    from rolekit.store.base import Executes

LOOK_EVERY_S = 1.0
AT_ONCE = 8
BLOCKED_GRACE_S = 1.0
"""So long a broker may refuse messages before clients are told to come back later."""


class Intake:
    """Takes in what clients send.

    Args:
        runtime: Of this process.
        outbox: Publishes what the store committed, where the transport does not join.
        limit: Messages waiting in one queue above which nothing more is taken.
    """

    def __init__(self, runtime: Runtime, outbox: Outbox | None, limit: int) -> None:
        self._runtime = runtime
        self._outbox = outbox
        self._limit = limit
        self._full: dict[str, bool] = {}
        self._looked_at: dict[str, float] = {}
        self._fine_until_s: dict[type, float] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self.meters: FlowMeters | None = None
        self.reminder = Reminder(runtime.bell)
        self.streams = Streaming(runtime, self._leave_streamed, limit)
        self._accepting: Grouped[Accept, KeyRow | None] = Grouped(
            self._accept_all, _size_of, "accept requests"
        )

    @property
    def at_once(self) -> int:
        """How many calls of `leave` may be under way without changing their order."""
        commits = self._runtime.transport.features.joins_store or self._runtime.keeps_sent
        return 1 if commits else AT_ONCE

    async def leave(
        self,
        packets: list[Packet],
        later: list[Due],
        key: KeyRow | None,
        streamed: Sequence[Streamed] = (),
    ) -> KeyRow | None:
        """Make packets durable; return the earlier request with this key, if there was one."""
        direct = key is None and not later and not streamed
        if direct and not self._runtime.keeps_sent:
            if packets:
                await self._runtime.transport.publish(packets)
            self._note_left(packets)
            return None
        if streamed:
            commit, other = await self._runtime.store.accept(packets, later, key, streamed)
            self._announce(commit)
            self._note_left([*packets, *(due.packet for due in later)])
            self._note_left([one.packet for one in streamed])
            return other
        return await self._accepting.ask(Accept(packets, later, key))

    async def _accept_all(self, requests: Sequence[Accept]) -> list[KeyRow | None]:
        commit, others = await self._runtime.store.accept_all(requests)
        self._announce(commit)
        for one in requests:
            self._note_left([*one.packets, *(due.packet for due in one.later)])
        return others

    def _note_left(self, packets: Sequence[Packet]) -> None:
        if self.meters is not None:
            self.meters.sent.value += len(packets)
        tracing = self._runtime.tracing
        if tracing is not None and tracing.leaving.awaits:
            tracing.leaving.left(packets)

    async def _leave_streamed(self, packets: list[Packet], streamed: list[Streamed]) -> None:
        await self.leave(packets, [], None, streamed)

    async def streamed(
        self, message: AnyMessage, root: str, headers: Mapping[str, str] | None, stream: str
    ) -> tuple[list[Packet], list[Streamed]]:
        """Build the packets of a message that gets a place in a stream.

        Returns:
            Those beside the stream, and those in it.

        Raises:
            Unroutable: No gather takes what becomes of it in order.
            IntakeFull: Too much waits already.
        """
        cls = type(message)
        if cls in self._runtime.plan.outside:
            raise Unroutable(
                f"A {wire_name(cls)} goes to the app {self._runtime.plan.outside[cls]}, which "
                "knows of no stream here.",
                fix="Leave stream= out, or let a handler here send it on.",
            )
        targets = self.streams.targets(cls)
        await self._check_room(targets)
        packets = self._built(message, root, headers, "", targets)
        beside, streamed = self.streams.build(cls, packets, stream)
        await self.streams.admit(streamed)
        return beside, streamed

    async def join(self, via: Executes, packets: list[Packet], later: list[Due]) -> None:
        """Let packets leave with a transaction that is somebody else's."""
        self.reminder.remind(await self._runtime.store.accept_via(via, packets, later))
        self._note_left([*packets, *(due.packet for due in later)])

    def _announce(self, commit: Commit) -> None:
        if commit.leaving and self._outbox is not None:
            self._outbox.leave(commit.leaving)
        self._runtime.bell.ring(commit.topics)

    def root(self, id_: str | None = None) -> str:
        """Name a root message: at random, or as its sender named it."""
        app = self._runtime.plan.name
        return draw_root(app) if id_ is None else given_by(app, id_)

    def due(self, packets: list[Packet], delay_s: float) -> list[Due]:
        """Plan packets for later."""
        due_ms = self._runtime.clock.now_ms() + round(delay_s * 1000)
        return [Due(packet, due_ms) for packet in packets]

    async def packets(
        self,
        message: AnyMessage,
        root: str,
        headers: Mapping[str, str] | None,
        reply_to: str = "",
    ) -> list[Packet]:
        """Build one packet for each handler that takes the message.

        Raises:
            Unroutable: There is none.
            IntakeFull: Too much waits for one of them, or for the broker.
        """
        cls = type(message)
        if not self._is_fine(cls):
            await self.admit(cls)
        return self.build(message, root, headers, reply_to)

    async def admit(self, cls: type) -> None:
        """Refuse messages of a class while there is no room for them.

        Raises:
            IntakeFull: Too much waits for one of its handlers, or for the broker.
        """
        targets = self._runtime.queues_of(cls)
        await self._check_room(targets)
        seen_s = min((self._looked_at.get(name, 0) for name in targets), default=0)
        self._fine_until_s[cls] = seen_s + LOOK_EVERY_S

    def _is_fine(self, cls: type) -> bool:
        """Whether a class was admitted a moment ago, and nothing was seen since."""
        return (
            time.monotonic() < self._fine_until_s.get(cls, 0)
            and (self._outbox is None or self._outbox.has_room)
            and not self._runtime.transport.blocked_s()
        )

    def build(
        self,
        message: AnyMessage,
        root: str,
        headers: Mapping[str, str] | None = None,
        reply_to: str = "",
    ) -> list[Packet]:
        """Build one packet for each handler that takes a message that was admitted.

        Raises:
            Unroutable: There is none; or what becomes of it must stand in a stream.
        """
        plan = self._runtime.plan
        targets = self._runtime.targets(type(message), "")
        if plan.streams:
            _check_streams(plan, type(message))
        outside = plan.outside.get(type(message), "")
        if outside and reply_to and not targets:
            raise Unroutable(
                f"A {wire_name(type(message))} goes to the app {outside}, which cannot answer "
                "whoever asks here.",
                fix="Send it, and let the other app send a message back: outside={...} there.",
            )
        if not targets and not outside:
            raise Unroutable(
                f"No handler of {plan.name} takes a {wire_name(type(message))}.",
                fix="Add the role that does, or send what one takes.",
            )
        return self._built(message, root, headers, reply_to, targets, outside)

    def _built(
        self,
        message: AnyMessage,
        root: str,
        headers: Mapping[str, str] | None,
        reply_to: str,
        targets: Sequence[str],
        outside: str = "",
    ) -> list[Packet]:
        plan, codec = self._runtime.plan, self._runtime.codec
        name, version, body = codec.encode(message)
        tracing = self._runtime.tracing
        if tracing is not None:
            carried, sending = tracing.entering(headers)
        else:
            carried, sending = dict(headers) if headers else {}, None
        head = Head(
            type=name,
            type_version=version,
            codec=codec.default,
            root=root,
            sent_at_ms=self._runtime.clock.now_ms(),
            headers=carried,
            reply_to=reply_to,
        )
        is_alone = len(targets) == 1
        packets: list[Packet] = []
        for target in targets:
            id_ = root if is_alone else derive(root, target)
            queue, encoded = addressed(plan, target, message, head)
            packets.append(Packet(queue=queue, id=id_, head=encoded, body=body))
        if outside:
            id_ = derive(root, outside_queue(outside)) if targets else root
            packets.append(packet_for(outside, head, id_, body))
        if sending is not None and tracing is not None:
            tracing.sent(sending, packets, root)
        elif tracing is not None:
            tracing.memory.sent(packets, head)
        return packets

    async def _check_room(self, targets: Sequence[str]) -> None:
        """Refuse what is too much, by what was seen a moment ago.

        What is sent to a broker that takes nothing would hang until its deadline. Only the
        first message to a queue waits for a look; later ones find what the last
        look found while the next one goes on beside them. While the broker is away, nobody
        knows of queues.
        """
        if self._outbox is not None and not self._outbox.has_room:
            raise IntakeFull(
                "Too many messages wait for the broker already.",
                fix="Come back later; look whether the broker is up, and takes messages.",
            )
        blocked_s = self._runtime.transport.blocked_s()
        if blocked_s > BLOCKED_GRACE_S:
            raise IntakeFull(
                "The broker is short of memory or disk and has taken nothing for "
                f"{blocked_s:.0f} s.",
                fix="Come back later; `rabbitmq-diagnostics alarms` says what it lacks.",
            )
        now = time.monotonic()
        stale = [name for name in targets if now - self._looked_at.get(name, 0) > LOOK_EVERY_S]
        if stale:
            self._looked_at.update(dict.fromkeys(stale, now))
            if any(name not in self._full for name in stale):
                with suppress(Unavailable):
                    await self._look(stale)
            else:
                # Owned by close(), which ends it.
                looking = asyncio.create_task(self._look_again(stale))
                self._looking.add(looking)
                looking.add_done_callback(self._looking.discard)
        if any(self._full.get(name) for name in targets):
            raise IntakeFull(
                f"{self._limit} messages wait for {', '.join(targets)} already.",
                fix="Come back later; or scale the role up.",
            )

    async def _look(self, queues: list[str]) -> None:
        depths = await self._runtime.transport.depths(queues)
        self._fine_until_s.clear()
        for name, depth in depths.items():
            self._full[name] = depth.waiting >= self._limit

    async def _look_again(self, queues: list[str]) -> None:
        with suppress(RolekitError):
            await self._look(queues)

    async def close(self) -> None:
        """Look no more."""
        await self.streams.close()
        await self._accepting.close()
        for looking in list(self._looking):
            looking.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)


class Scope:
    """What one request has sent so far, held back until it commits."""

    def __init__(self, intake: Intake, key: KeyRow | None, prior: Saved | None) -> None:
        self._intake = intake
        self._key = key
        self._prior = prior
        self._slot = 0
        self.packets: list[Packet] = []
        self.later: list[Due] = []
        self.streamed: list[Streamed] = []

    @property
    def prior(self) -> Saved | None:
        """The reply an earlier request with this key was given."""
        return self._prior

    def next_root(self) -> str:
        """Name the next message of this request: with a key, as its repeat would."""
        self._slot += 1
        key = self._key
        return self._intake.root(None if key is None else derive(key.key, "sent", self._slot))

    async def flush(self) -> None:
        """Let what was held back leave now, since somebody waits for it."""
        packets, self.packets = self.packets, []
        later, self.later = self.later, []
        streamed, self.streamed = self.streamed, []
        await self._intake.leave(packets, later, None, streamed)

    async def commit(self, reply: Saved | None) -> Saved | None:
        """Let everything leave, in one commit with key and reply."""
        if self._key is None:
            await self.flush()
            return reply
        key = KeyRow(key=self._key.key, body_hash=self._key.body_hash, reply=reply)
        other = await self._intake.leave(self.packets, self.later, key, self.streamed)
        if other is None:
            return reply
        check_hash(other, self._key.body_hash)
        return other.reply


current_scope: ContextVar[Scope | None] = ContextVar("request_scope", default=None)


def _size_of(request: Accept) -> tuple[int, int]:
    packets = [*request.packets, *(due.packet for due in request.later)]
    return len(packets) + 1, sum(len(packet.body) + len(packet.head) for packet in packets)


def _check_streams(plan: AppPlan, cls: type) -> None:
    """Refuse what leads to a gather that takes streams, if it would not stand in one."""
    ways = ways_of(plan, cls)
    if ways:
        gather = next(iter(ways))
        raise Unroutable(
            f"What becomes of a {wire_name(cls)} comes to {gather}, which no split feeds: it "
            "takes a stream, and this message stands in none.",
            fix='Say which: client.send(..., stream="..."). If parts of a split should come '
            "to it, let a handler return list[...] or AsyncIterator[...] of them.",
        )


def check_hash(row: KeyRow, hash_: str) -> None:
    """Refuse a key that came with another body before."""
    if row.body_hash != hash_:
        raise KeyReused(
            "This idempotency key came before with another body.",
            fix="Send the same body again, or take a new key.",
        )
