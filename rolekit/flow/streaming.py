"""Sending into streams: each message gets the next position of a sequence without end.

Positions are given by the commit that makes the message durable, under the lock of the
stream's row, so several clients agree on one order: that of their commits. What one process
sends meanwhile goes into the next commit together, in the order of the calls.

Source: API "Gathers" 8, DESIGN 4 "Order (c)".
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from rolekit.errors import IntakeFull, RolekitError, Unavailable, Unroutable
from rolekit.model.envelope import Attempts, Head, Kind, Packet, encode_head
from rolekit.model.graph_streams import ways_of
from rolekit.model.ids import derive, keyed
from rolekit.model.message import wire_name
from rolekit.model.position import ROW
from rolekit.model.reassembly import Cursor
from rolekit.store.base import Opening, Streamed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rolekit.flow.runtime import Runtime
    from rolekit.model.plan import HandlerPlan

LOOK_EVERY_S = 0.5
BATCH = 500
NEVER_MS = 2**62
NAME_CHARS = 200

_Sent = tuple[list[Packet], list[Streamed], "asyncio.Future[None]"]


class Streaming:
    """Gives what clients send its place in streams.

    Args:
        runtime: Of this process.
        commit: Makes packets and streamed messages durable.
        limit: Messages of one stream that may wait for its gather; beyond, no more is taken.

    Attributes:
        in_order: Held from the call until the message was submitted, so that calls keep their
            order where one of them waits for a look at the queues.
    """

    def __init__(
        self,
        runtime: Runtime,
        commit: Callable[[list[Packet], list[Streamed]], Awaitable[object]],
        limit: int,
    ) -> None:
        self._runtime = runtime
        self._commit = commit
        self._limit = limit
        self._openings: dict[tuple[str, str], Opening] = {}
        self.in_order = asyncio.Lock()
        self._waiting: list[_Sent] = []
        self._committing: asyncio.Task[None] | None = None
        self._backlogs: dict[str, int] = {}
        self._looked_at: dict[str, float] = {}

    def build(
        self, cls: type, packets: Sequence[Packet], stream: str
    ) -> tuple[list[Packet], list[Streamed]]:
        """Say which of a message's packets stand in the stream, and which go beside it.

        Raises:
            Unroutable: No gather takes what becomes of it in order.
            RolekitError: The stream cannot be called so, or it would be in it twice.
        """
        _check_name(stream)
        of = self._gathers(cls)
        each = list(zip(self.targets(cls), packets, strict=True))
        beside = [packet for target, packet in each if target not in of]
        streamed = [
            Streamed(name=stream, opening=self._opening(stream, of[target]), packet=packet)
            for target, packet in each
            if target in of
        ]
        return beside, streamed

    def targets(self, cls: type) -> list[str]:
        """List who gets a message of this class first; its gather itself, if none is between.

        Raises:
            Unroutable: No gather takes what becomes of it in order.
        """
        self._gathers(cls)
        plan = self._runtime.plan
        return [
            name
            for name in plan.destinations[cls]
            if plan.handlers[name].kind != "gather" or name in plan.streams
        ]

    def _gathers(self, cls: type) -> dict[str, HandlerPlan]:
        """Return the gather of each handler that leads to one."""
        plan = self._runtime.plan
        ways = ways_of(plan, cls)
        name = wire_name(cls)
        if not ways:
            raise Unroutable(
                f"client.send({name}(...), stream=...): nothing that becomes of a {name} comes "
                "to a gather that takes a stream.",
                fix="Let a @gather take Run[...] of it, with no split upstream and nothing "
                "beside the run.",
            )
        found: dict[str, HandlerPlan] = {}
        for gather, targets in ways.items():
            if len(targets) > 1 or targets[0] in found:
                raise RolekitError(
                    f"client.send({name}(...), stream=...): it would stand twice in a stream; "
                    f"{' and '.join(sorted({*targets, *found}))} lead to "
                    f"{' and '.join(sorted(ways))}.",
                    fix="Let one way lead from it to one gather.",
                )
            found[targets[0]] = plan.handlers[gather]
        return found

    def _opening(self, stream: str, gather: HandlerPlan) -> Opening:
        opening = self._openings.get((stream, gather.name))
        if opening is None:
            opening = self._openings[stream, gather.name] = self._opened(stream, gather)
        return opening

    def _opened(self, stream: str, gather: HandlerPlan) -> Opening:
        sequence = keyed(self._runtime.plan.name, "stream", gather.name, stream)
        token = Head(
            kind=Kind.RELEASE,
            codec=self._runtime.codec.default,
            root=derive(sequence, "root"),
            sent_at_ms=self._runtime.clock.now_ms(),
            sequence=sequence,
            attempts=Attempts(),
        )
        packet = Packet(queue=gather.name, id=sequence, head=encode_head(token))
        return Opening(
            id=sequence,
            gather=gather.name,
            cursor=Cursor((0, 0), (None, ROW)),
            waits=gather.on_dead == "wait",
            token=packet,
            source=packet,
            deadline_ms=NEVER_MS,
            age_s=gather.age_s,
            is_ordered=gather.ordered,
            is_stream=True,
        )

    async def admit(self, streamed: Sequence[Streamed]) -> None:
        """Refuse messages while too many of their stream wait.

        Raises:
            IntakeFull: A gather is that far behind.
        """
        now = time.monotonic()
        sequences = {one.opening.id: one for one in streamed}
        stale = [s for s in sequences if now - self._looked_at.get(s, 0) > LOOK_EVERY_S]
        if stale:
            self._looked_at.update(dict.fromkeys(stale, now))
            with suppress(Unavailable):
                self._backlogs.update(await self._runtime.store.backlogs(stale))
        for sequence, one in sequences.items():
            if self._backlogs.get(sequence, 0) >= self._limit:
                raise IntakeFull(
                    f"{self._limit} messages of the stream {one.name!r} wait for "
                    f"{one.opening.gather} already.",
                    fix="Come back later; `rolekit holes` shows what it waits for.",
                )

    def submit(self, packets: list[Packet], streamed: list[Streamed]) -> asyncio.Future[None]:
        """Make a message durable, together with those that are sent meanwhile."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((packets, streamed, done))
        if self._committing is None:
            # Owned by close(), which ends it.
            self._committing = asyncio.create_task(self._commit_all())
        return done

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                some, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._commit_some(some)
        finally:
            self._committing = None

    async def _commit_some(self, some: list[_Sent]) -> None:
        packets = [packet for sent in some for packet in sent[0]]
        streamed = [one for sent in some for one in sent[1]]
        error: BaseException | None = None
        try:
            await self._commit(packets, streamed)
        except RolekitError as refused:
            error = refused
        except BaseException as ended:
            error = Unavailable("This process ends; whether it was sent is not known.")
            error.__cause__ = ended
            raise
        finally:
            for _, _, done in some:
                if done.done():
                    continue
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)

    async def close(self) -> None:
        """Send no more; what is being committed has an unknown outcome."""
        if self._committing is not None:
            self._committing.cancel()
            with suppress(asyncio.CancelledError):
                await self._committing
        waiting, self._waiting = self._waiting, []
        for _, _, done in waiting:
            if not done.done():
                done.set_exception(Unavailable("This process ends; it was not sent."))


def _check_name(stream: str) -> None:
    if not 0 < len(stream) <= NAME_CHARS or not stream.isprintable():
        raise RolekitError(
            f"A stream cannot be called {stream[:64]!r}.",
            fix=f"Take a name of 1 to {NAME_CHARS} printable characters.",
        )


def check_stream_options(delay_s: float, via: object) -> None:
    """Refuse options of `client.send` that do not go with `stream=`."""
    if delay_s > 0:
        raise RolekitError(
            "client.send(stream=..., delay_s=...): everything sent into the stream after it "
            "would wait so long.",
            fix="Leave delay_s out, and send into the stream when it is time.",
        )
    if via is not None:
        raise RolekitError(
            "client.send(stream=..., via=...): everybody else who sends into the stream would "
            "wait for the end of that transaction.",
            fix="Send a message without stream= in it, and send into the stream from outside.",
        )
