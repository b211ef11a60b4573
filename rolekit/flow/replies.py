"""Answers: kept ones for whoever follows, and direct ones for whoever asks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import structlog

from rolekit.errors import CodecError, Failed, RolekitError
from rolekit.model.envelope import Head, Kind, decode_head
from rolekit.model.span import TRACEPARENT
from rolekit.store.base import REPLIES, Reply, Store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from rolekit.bell import Bell
    from rolekit.flow.runtime import Runtime
    from rolekit.transport.base import Delivery, Subscription

log = structlog.get_logger("rolekit.replies")

POLL_S = 0.5
LIMIT = 1000
ASKERS_WINDOW = 1000


class Following:
    """Replies of one root, as they are read: numbers follow commits, so one is enough.

    Attributes:
        last: Number of the last reply that was read.
        arrived: Those nobody has taken yet, in order.
    """

    def __init__(self, after: int) -> None:
        self.last = after
        self.arrived: asyncio.Queue[Reply] = asyncio.Queue()

    def take(self, reply: Reply) -> None:
        """Take a reply that was read, once."""
        if reply.n > self.last:
            self.last = reply.n
            self.arrived.put_nowait(reply)


class ReplyHub:
    """Reads kept replies for everybody in this process who follows, all in one query.

    Args:
        store: Where they are.
        bell: Rings when some were stored.
    """

    def __init__(self, store: Store, bell: Bell) -> None:
        self._store = store
        self._bell = bell
        self._following: dict[str, list[Following]] = {}
        self._look = asyncio.Event()

    @asynccontextmanager
    async def follow(self, root: str, after: int) -> AsyncGenerator[Following]:
        """Have the replies of a root read, those with a number above `after`."""
        following = Following(after)
        self._following.setdefault(root, []).append(following)
        self._look.set()
        try:
            yield following
        finally:
            self._following[root].remove(following)
            if not self._following[root]:
                del self._following[root]

    async def run(self) -> None:
        """Read until cancelled, as long as anybody follows."""
        off = self._bell.on([REPLIES], self._look.set)
        try:
            while True:
                await self._turn()
        finally:
            off()

    async def _turn(self) -> None:
        if not self._following:
            await self._look.wait()
        self._look.clear()
        after = {
            root: min(following.last for following in everybody)
            for root, everybody in self._following.items()
        }
        try:
            replies = await self._store.replies(after, LIMIT) if after else []
        except RolekitError as error:
            log.info("replies wait", error=str(error))
            replies = []
        for reply in replies:
            for following in self._following.get(reply.root, ()):
                following.take(reply)
        if len(replies) < LIMIT:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._look.wait()
            except TimeoutError:
                pass


class Answers:
    """The reply queue of this process: answers on their way to whoever asks.

    Args:
        runtime: Of this process.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._asking: dict[str, tuple[asyncio.Future[object], tuple[type, ...]]] = {}
        self._subscription: Subscription | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Begin to consume the reply queue; again and again does nothing."""
        async with self._opening:
            if self._subscription is not None:
                return
            queue = self._runtime.reply_queue
            await self._runtime.transport.declare([queue])
            self._subscription = await self._runtime.transport.subscribe(
                [queue], window=ASKERS_WINDOW, sink=self._take
            )

    async def close(self) -> None:
        """Consume no more."""
        if self._subscription is not None:
            await self._subscription.close()

    @asynccontextmanager
    async def asking(
        self, root: str, wanted: tuple[type, ...]
    ) -> AsyncGenerator[asyncio.Future[object]]:
        """Wait for the first answer of these classes to a root."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._asking[root] = (future, wanted)
        try:
            yield future
        finally:
            del self._asking[root]

    def _take(self, batch: Sequence[Delivery]) -> None:
        for delivery in batch:
            try:
                self._answer(decode_head(delivery.packet.head), delivery)
            except RolekitError as error:
                log.warning("an answer cannot be read", error=str(error))
        if self._subscription is not None:
            self._subscription.ack(batch)

    def _answer(self, head: Head, delivery: Delivery) -> None:
        """Hand an answer over; one that nobody waits for is dropped."""
        future, wanted = self._asking.get(head.root, (None, ()))
        if future is None or future.done():
            return
        body = delivery.packet.body
        tracing = self._runtime.tracing
        if tracing is not None and (cause := head.headers.get(TRACEPARENT)):
            tracing.received(cause, head.type, head.root)
        if head.kind is Kind.FAILURE:
            future.set_exception(failed(body))
            return
        message = self._runtime.codec.decode(head.type, head.type_version, head.codec, body)
        if isinstance(message, wanted):
            future.set_result(message)


def failed(body: bytes) -> Failed:
    """Build the error for what ended in a dead letter."""
    try:
        dead_letter, reason = msgspec.json.decode(body, type=tuple[str, str])
    except msgspec.DecodeError as error:
        raise CodecError(f"A failure cannot be read: {error}.") from error
    return Failed(
        f"What was sent became dead letter {dead_letter}: {reason}.",
        dead_letter_id=dead_letter,
        fix="`rolekit dead show` tells more; `rolekit dead replay` tries it again.",
    )


def wire_names_of(names: Mapping[type, str], classes: Sequence[type]) -> list[str]:
    """Return the wire names of reply classes."""
    return [names[cls] for cls in classes if cls in names]
