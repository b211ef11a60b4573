"""Publishing: whole batches in one write, confirmed by counting.

    publish ── waiting ──(window, few writes a turn)── in flight ──(confirms)── done

The broker numbers what comes on a channel and confirms numbers, so no message needs a
future of its own. A batch ends as stored, or with what the broker said against some of it:
returned, for lack of a queue; refused, for lack of room. When no answer comes in time, or
the connection is lost, its outcome is unknown, and the same ids may be published again.

Source: RELIABILITY H4 to H6, H24; PERFORMANCE 3.2.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import suppress
from struct import error
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import (
    CodecError,
    PublishUnknown,
    RolekitError,
    Unavailable,
)
from rolekit.transport.rabbitmq import wire
from rolekit.transport.rabbitmq.address import AWAY
from rolekit.transport.rabbitmq.batch import Batch, Piece, fail, finish, noted
from rolekit.transport.rabbitmq.demux import FrameError, Returned, Tap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rolekit.clock import Clock
    from rolekit.model.envelope import Packet
    from rolekit.transport.rabbitmq.connection import BrokerConnection
    from rolekit.transport.rabbitmq.session import Channel, Session

log = structlog.get_logger("rolekit.rabbitmq")

WINDOW = 2_000
"""Messages in flight, at most."""
WINDOW_BYTES = 8 << 20
MOST_STARTS = 4096
PIECE = 256
"""Messages of one publish that go out together, so that others get their turn."""
EAGER = 50
"""So many publishes that wait are written before the turn ends: the broker begins with them."""
CONFIRM_S = 20.0
LOOK_EVERY_S = 1.0
AGAIN_MAX_S = 3.0


class Publisher:
    """Publishes on one channel at a time.

    Attributes:
        before_write: Called before messages are written, so that what must be known before
            somebody has them can be told; must not raise.

    Args:
        connection: For publishing only: a broker that is short of memory stops reading it.
        name_of: Says what a queue is called on the broker.
        clock: Gives packets without a birth theirs.
    """

    def __init__(
        self, connection: BrokerConnection, name_of: Callable[[str], str], clock: Clock
    ) -> None:
        self._connection = connection
        self._name_of = name_of
        self._clock = clock
        self._waiting: deque[Batch] = deque()
        self._flying: deque[Piece] = deque()
        self._in_flight = 0
        self._bytes = 0
        self._next = 1
        self._confirmed = 0
        self._early: set[int] = set()
        self._refused: set[int] = set()
        self._returned = 0
        self._channel: Channel | None = None
        self._session: Session | None = None
        self._starts: dict[str, bytes] = {}
        self._will_flush = False
        self._tasks: list[asyncio.Task[None]] = []
        self._starting = asyncio.Lock()
        self.before_write: Callable[[], None] = lambda: None
        self.returned = self.unknown = 0

    @property
    def in_flight(self) -> int:
        """Messages written and not confirmed: `WINDOW` at most."""
        return self._in_flight

    async def start(self) -> None:
        """Open the connection and the first channel; does nothing when that is done."""
        async with self._starting:
            if not self._tasks:
                await self._connection.start()
                # Owned by stop(), which ends them.
                self._tasks = [
                    asyncio.create_task(self._live(), name="publish"),
                    asyncio.create_task(self._look(), name="publish: deadlines"),
                ]

    async def stop(self) -> None:
        """Publish no more; what is in flight is unknown."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lose("stopped")
        for batch in self._waiting:
            fail(batch, Unavailable("This process stops publishing; nothing was sent."))
        self._waiting.clear()

    async def publish(self, packets: Sequence[Packet]) -> None:
        """Store all of these, in this order; return when that is confirmed."""
        if not packets:
            return
        loop = asyncio.get_running_loop()
        batch = Batch(packets, loop.create_future(), loop.time() + CONFIRM_S)
        self._waiting.append(batch)
        if not self._tasks:
            await self._start_for(batch)
        if len(self._waiting) % EAGER == 0:
            self._flush()
        elif not self._will_flush:
            self._will_flush = True
            loop.call_soon(self._flush)
        await batch.done

    async def _start_for(self, batch: Batch) -> None:
        """Start, with a batch in its place already, so that nothing overtakes it."""
        try:
            await self.start()
        except BaseException:
            with suppress(ValueError):
                self._waiting.remove(batch)
            raise

    # -- out ---------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Write as much as window and socket take."""
        self._will_flush = False
        channel, session = self._channel, self._session
        if channel is None or session is None or session.is_blocked or channel.lost.done():
            return
        if not self._waiting:
            return
        self.before_write()  # here, since what is encoded must be written
        out: list[bytes] = []
        max_payload = session.frame_max - wire.OVERHEAD
        until_s = asyncio.get_running_loop().time() + CONFIRM_S
        while self._waiting and self._in_flight < WINDOW and self._bytes < WINDOW_BYTES:
            if not session.can_write:
                break
            self._write_piece(channel.number, max_payload, until_s, out)
        if out:
            channel.write(b"".join(out))

    def _write_piece(
        self, number: int, max_payload: int, until_s: float, out: list[bytes]
    ) -> None:
        batch = self._waiting[0]
        if batch.done.done():
            self._waiting.popleft()
            return
        begin, mark = batch.sent, len(out)
        end = min(begin + PIECE, len(batch.packets), begin + WINDOW - self._in_flight)
        try:
            end, size = self._encode(number, batch.packets, (begin, end), max_payload, out)
        except (RolekitError, error) as wrong:
            # It takes nothing else with it: neither what is in `out`, nor what waits.
            del out[mark:]
            self._waiting.popleft()
            fail(batch, wrong if isinstance(wrong, RolekitError) else CodecError(
                f"A packet cannot be written: {wrong}."
            ))  # fmt: skip
            return
        count = end - begin
        batch.sent = end
        batch.until_s = until_s
        ends = end == len(batch.packets)
        last = self._next + count - 1
        self._flying.append(Piece(batch, self._next, last, begin, size, ends))
        self._next = last + 1
        self._in_flight += count
        self._bytes += size
        if ends:
            self._waiting.popleft()
        elif count == PIECE and len(self._waiting) > 1:
            # A long list does not keep the others waiting; what only met a full window does.
            self._waiting.rotate(-1)

    def _encode(
        self,
        number: int,
        packets: Sequence[Packet],
        some: tuple[int, int],
        max_payload: int,
        out: list[bytes],
    ) -> tuple[int, int]:
        """Append some packets, as many as the window has bytes for, at least one.

        Returns:
            Where it ended, and how many bytes these are.
        """
        starts, size, now_ms = self._starts, 0, 0
        room = WINDOW_BYTES - self._bytes
        for at in range(*some):
            packet = packets[at]
            if packet.birth_ms is None:
                now_ms = now_ms or self._clock.now_ms()
                packet.birth_ms = now_ms
            start = starts.get(packet.queue) or self._start_of(number, packet.queue)
            wire.add_content(out, start, number, packet, max_payload)
            size += len(packet.body) + len(packet.head)
            if size >= room:
                return at + 1, size
        return some[1], size

    def _start_of(self, number: int, queue: str) -> bytes:
        if len(self._starts) >= MOST_STARTS:  # each who asked once has a queue of its own
            self._starts.clear()
        start = self._starts[queue] = wire.content_start(number, self._name_of(queue))
        return start

    # -- answers -----------------------------------------------------------------------------

    def _confirm(self, tag: int, multiple: bool, refused: bool) -> None:  # noqa: FBT001 - a Tap
        """Take a confirm; what is confirmed without a gap is over.

        Raises:
            FrameError: It is for what was not published; no confirm can be believed now.
        """
        if not 0 < tag < self._next:
            raise FrameError(f"The broker confirmed message {tag}; {self._next - 1} were sent.")
        if refused:
            first = self._confirmed + 1 if multiple else tag
            self._refused.update(
                number for number in range(first, tag + 1) if number not in self._early
            )
        if multiple:
            base = max(tag, self._confirmed)
        elif tag == self._confirmed + 1:
            base = tag
        else:
            self._early.add(tag)
            return
        early = self._early
        if early:
            while base + 1 in early:
                base += 1
                early.discard(base)
            if multiple:
                self._early = {number for number in early if number > base}
        self._confirmed = base
        self._settle()

    def _settle(self) -> None:
        flying, base = self._flying, self._confirmed
        while flying and flying[0].last <= base:
            piece = flying.popleft()
            self._in_flight -= piece.last - piece.first + 1
            self._bytes -= piece.size
            self._end(piece)
        if self._waiting and not self._will_flush:
            self._will_flush = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _end(self, piece: Piece) -> None:
        batch = piece.batch
        if self._refused:
            mine = self._refused.intersection(range(piece.first, piece.last + 1))
            self._refused.difference_update(mine)
            batch.refused = noted(batch.refused, (piece.begin + n - piece.first for n in mine))
        if not piece.ends or batch.done.done():
            # A long list that goes on has as much time again.
            batch.until_s = asyncio.get_running_loop().time() + CONFIRM_S
            return
        finish(batch)

    def _return(self, returned: Returned) -> None:
        """Match a message that had no queue to its publish: the first such one in flight.

        The broker returns in the order of publishing, before it confirms the message, so
        it is behind the one that was returned last. Of several with the same id that are in
        flight, as many fail as were returned: which of them is the same to their receiver.
        """
        self.returned += 1
        try:
            read = wire.read(returned.props, returned.body)
        except CodecError:
            read = wire.Foreign()
        if isinstance(read, wire.Own):
            after = self._returned
            for piece in self._flying:
                if piece.last > after and self._is_in(piece, after, returned.routing_key, read):
                    return
        log.error("the broker returned what was not published", key=returned.routing_key)

    def _is_in(self, piece: Piece, after: int, routing_key: str, own: wire.Own) -> bool:
        """Whether a piece has it, with a number above `after`; note that if so."""
        for number in range(max(piece.first, after + 1), piece.last + 1):
            at = piece.begin + number - piece.first
            packet = piece.batch.packets[at]
            if (
                packet.id == own.id
                and packet.generation == own.generation
                and number not in self._early
                and self._name_of(packet.queue) == routing_key
            ):
                self._returned = number
                piece.batch.unroutable = noted(piece.batch.unroutable, (at,))
                return True
        return False

    # -- living ------------------------------------------------------------------------------

    async def _live(self) -> None:
        wait_s = 0.1
        while True:
            try:
                session = await self._connection.session(CONFIRM_S)
                channel = await session.channel(confirms=True)
            except (*AWAY, RolekitError) as error:
                log.info("cannot publish yet", error=str(error))
                await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311 - jitter
                wait_s = min(wait_s * 2, AGAIN_MAX_S)
                continue
            wait_s = 0.1
            try:
                self._begin(session, channel)
                self._lose(await asyncio.shield(channel.lost))
            finally:
                self._channel = None
                await asyncio.shield(channel.close())

    def _begin(self, session: Session, channel: Channel) -> None:
        channel.tap(Tap(on_confirm=self._confirm, on_return=self._return))
        session.on_resume(self._flush)
        self._connection.on_block = lambda blocked: None if blocked else self._flush()
        self._starts.clear()
        self._next, self._confirmed, self._returned = 1, 0, 0
        self._early.clear()
        self._refused.clear()
        self._channel, self._session = channel, session
        self._flush()

    def _lose(self, why: str) -> None:
        """Note that nobody will confirm what is in flight."""
        self._channel = self._session = None
        flying, self._flying = self._flying, deque()
        self._in_flight = self._bytes = 0
        for piece in flying:
            self.unknown += piece.last - piece.first + 1
            fail(piece.batch, PublishUnknown(
                f"The connection to the broker was lost before it confirmed: {why}. The "
                "messages may or may not be stored."
            ))  # fmt: skip
        self._waiting = deque(batch for batch in self._waiting if not batch.done.done())

    async def _look(self) -> None:
        """End what got no answer in time."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = asyncio.get_running_loop().time()
            for batch in list(self._waiting):
                if batch.until_s < now:
                    some = PublishUnknown("Not everything was sent in time.")
                    fail(batch, some if batch.sent else Unavailable(self._why_waiting()))
            overdue = [piece for piece in self._flying if piece.batch.until_s < now]
            for piece in overdue:
                fail(piece.batch, PublishUnknown(
                    f"The broker confirmed nothing for {CONFIRM_S:g} s. The messages may or "
                    "may not be stored."
                ))  # fmt: skip
            if overdue and self._channel is not None and not self._is_blocked:
                # Confirms that are that late will not come: a new channel counts anew.
                self._channel.lose("no confirm in time")
            self._waiting = deque(b for b in self._waiting if not b.done.done())

    @property
    def _is_blocked(self) -> bool:
        return self._session is not None and self._session.is_blocked

    def _why_waiting(self) -> str:
        if self._is_blocked:
            return "The broker is short of memory or disk and takes nothing; nothing was sent."
        return "The broker cannot be reached; nothing was sent."
