"""Moving all messages of a queue to the end of another one, in order and byte for byte.

    source ── Deliver n ──> Publish n ── target
    source <── Ack n ─────── Confirm n ── target

Everything delivered on a channel is published on it, in the same order, so the broker counts
both alike: what it confirms under a number is acked under that number. A message is in both
queues for a moment and in none never; if this dies in between, it is there twice, with the
same id, which the inbox absorbs.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from rolekit.errors import Unavailable
from rolekit.transport.rabbitmq import wire
from rolekit.transport.rabbitmq.counting import count
from rolekit.transport.rabbitmq.demux import Returned, Tap

if TYPE_CHECKING:
    from types import TracebackType

    from rolekit.transport.rabbitmq.demux import Arrived
    from rolekit.transport.rabbitmq.session import Channel, Session

WINDOW = 100
"""Messages in both queues at a time, at most."""
ENDLESS = 100_000
"""Messages that may come while those that are there are moved."""
FEW = 10
"""Messages that may trade places with those that come while a way is changed."""
STALL_S = 30.0
LOOK_S = 0.2

_TAG = "rolekit-move"


class Mover:
    """Moves messages for as long as its block lasts.

    Args:
        session: For both directions.
        source: Name of the queue on the broker.
        target: Name of the one that is published to, by the default exchange.
        exclusive: Whether nobody else may consume the source; quorum queues ignore it.

    Attributes:
        moved: Messages that were confirmed, and acked.
    """

    def __init__(
        self, session: Session, source: str, target: str, *, exclusive: bool = True
    ) -> None:
        self.source = source
        self.moved = 0
        self._session = session
        self._target = target
        self._channel: Channel | None = None
        self._open: set[int] = set()
        self._failed = ""
        self._progress = asyncio.Event()
        self._exclusive = exclusive

    async def __aenter__(self) -> Self:
        channel = self._channel = await self._session.channel(confirms=True)
        channel.tap(
            Tap(on_deliveries=self._arrived, on_confirm=self._confirmed, on_return=self._back)
        )
        channel.lost.add_done_callback(lambda lost: self._fail(lost.result()))
        await channel.calls.basic_qos(prefetch_count=WINDOW)
        await channel.calls.basic_consume(
            self.source, _never, exclusive=self._exclusive, consumer_tag=_TAG
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._fail("it was stopped")  # so that nothing is written behind the closing frame
        if self._channel is not None:
            await asyncio.shield(self._channel.close())

    async def settled(self) -> None:
        """Wait until everything that was taken until now is moved.

        Raises:
            Unavailable: It goes no further; what is not moved stays in the source.
        """
        taken = set(self._open)  # more comes all the time, where somebody publishes
        while self._failed or not taken.isdisjoint(self._open):
            await self._step(STALL_S)

    async def let_go(self) -> None:
        """Take no more, and move what was taken, so that nothing is in both queues.

        Raises:
            Unavailable: It goes no further; what is not moved stays in the source.
        """
        await self._open_channel().calls.basic_cancel(_TAG)
        await self.settled()

    async def drained(self, *, but: int = 0) -> None:
        """Wait until the source has nothing more to give, `but` a few.

        Raises:
            Unavailable: It goes no further; what is not moved stays in the source.
        """
        quiet_s, enough = 0.0, 0
        while True:
            await self.settled()
            moved = self.moved
            counts = await count(self._session, self.source)
            if counts is None or (counts.messages == 0 and not self._open):
                return
            if counts.messages < but:
                return
            enough = enough or moved + counts.messages + ENDLESS
            if moved > enough:
                raise Unavailable(
                    f"{self.source} is published to as fast as it is emptied.",
                    fix="Stop whoever publishes, and run this again; it goes on from here.",
                )
            # It has some, and they are on their way.
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._step(STALL_S)
            quiet_s = 0.0 if self.moved != moved else quiet_s + LOOK_S
            if quiet_s > STALL_S:
                raise Unavailable(
                    f"{self.source} has {counts.messages} messages and gives none.",
                    fix="Stop whatever else consumes it, and run this again.",
                )

    async def ended(self) -> None:
        """Move what the source delivered before it was deleted."""
        # Whatever was on its way to this channel comes before the answer.
        await self._open_channel().calls.basic_qos(prefetch_count=WINDOW)
        await self.settled()

    async def _step(self, timeout_s: float) -> None:
        if self._failed:
            raise Unavailable(
                f"Moving {self.source} to {self._target} broke off: {self._failed}.",
                fix="No message is lost. Run this again; it goes on from here.",
            )
        self._progress.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._progress.wait()
        except TimeoutError:
            self._fail(f"the broker confirmed nothing for {timeout_s:g} s")

    def _open_channel(self) -> Channel:
        assert self._channel is not None  # noqa: S101 - used inside the block only
        return self._channel

    # -- what the broker sends ---------------------------------------------------------------

    def _arrived(self, arrived: list[Arrived]) -> None:
        if self._failed:
            return
        channel = self._open_channel()
        method = wire.publish_method(channel.number, self._target)
        max_payload = self._session.frame_max - wire.OVERHEAD
        out: list[bytes] = []
        for tag, _, props, body in arrived:
            self._open.add(tag)
            out.append(method)
            wire.add_raw(out, channel.number, props, body, max_payload)
        channel.write(b"".join(out))

    def _confirmed(self, tag: int, multiple: bool, refused: bool) -> None:  # noqa: FBT001 - a Tap
        if refused:
            self._fail(f"{self._target} takes no more")
        if self._failed:
            return
        before = len(self._open)
        if multiple:
            self._open = {one for one in self._open if one > tag}
        else:
            self._open.discard(tag)
        self.moved += before - len(self._open)
        channel = self._open_channel()
        channel.write(wire.ack_frame(channel.number, tag, multiple=multiple))
        self._progress.set()

    def _back(self, _: Returned) -> None:
        self._fail(f"{self._target} is not there any more")

    def _fail(self, why: str) -> None:
        self._failed = self._failed or why
        self._progress.set()


async def _never(_: object) -> None:
    """Take what aiormq delivers: nothing, since the tap takes it first."""
