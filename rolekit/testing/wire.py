"""One connection through the proxy of `rolekit.testing.faults`.

A link has two lanes, one for each direction. A lane reads pieces, which are frames where it
knows them, lets them be judged, and queues them with the time when they are due; its other
half delivers them. So an end that is queued comes after all that came before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING

from rolekit.testing.flows import Direction, Faults, Flow, Verdict
from rolekit.testing.frames import BODY, HEADER, PROTOCOL_HEADER, Frame, Splitter

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 65_536
QUEUED = 64
"""Pieces on their way through a lane; further bytes wait with their sender."""
CLOSE_S = 2.0
STEPS_PER_S = 20
"""How often a slowed lane sends."""

End = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CALM = Flow()


class _Last(enum.Enum):
    """Why nothing follows."""

    EOF = enum.auto()
    RESET = enum.auto()
    CUT = enum.auto()


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection: its peer gets an error, and what it was not yet sent is lost."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it is closed already
        sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Link:
    """A client's connection and the server's that belongs to it.

    Args:
        number: Which one of the proxy's it is.
        faults: What happens on it.
        client: The connection that was accepted.
        server: The connection to the target.
    """

    def __init__(self, number: int, faults: Faults, client: End, server: End) -> None:
        self.number = number
        self.is_amqp: bool | None = None
        self.gone: Direction | None = None
        self._writers = {Direction.TO_CLIENT: client[1], Direction.TO_SERVER: server[1]}
        self._lanes = (
            _Lane(self, faults, Direction.TO_SERVER, client[0]),
            _Lane(self, faults, Direction.TO_CLIENT, server[0]),
        )
        self._ended: set[Direction] = set()
        self._is_over = asyncio.Event()

    async def run(self) -> None:
        """Carry bytes until the connection is at its end, for whatever reason."""
        try:
            async with asyncio.TaskGroup() as group:
                halves = [half for lane in self._lanes for half in (lane.read(), lane.write())]
                tasks = [group.create_task(half) for half in halves]
                await self._is_over.wait()
                for task in tasks:
                    task.cancel()
        finally:
            for writer in self._writers.values():
                await _close(writer)

    def writer(self, direction: Direction) -> asyncio.StreamWriter:
        """Return the way to the end in that direction."""
        return self._writers[direction]

    def end(self, *, by_reset: bool) -> None:
        """End it now, for both ends; what is on its way is lost."""
        if by_reset:
            for writer in self._writers.values():
                reset(writer)
        self._is_over.set()

    def abandon(self, gone: Direction) -> None:
        """Reset one end and keep the other."""
        self.gone = gone
        reset(self._writers[gone])

    def cut(self, direction: Direction) -> None:
        """End it now that all was delivered in one direction; the other end is reset."""
        reset(self._writers[direction.opposite])
        self._is_over.set()

    def pass_eof(self, direction: Direction, *, is_told: bool) -> None:
        """Note that nothing more goes there, and tell; after both directions it is over."""
        self._ended.add(direction)
        if is_told:
            with contextlib.suppress(OSError):
                self._writers[direction].write_eof()
        if self.gone is not None or len(self._ended) == len(self._lanes):
            self._is_over.set()


class _Lane:
    """One direction of a link."""

    def __init__(
        self, link: Link, faults: Faults, direction: Direction, source: asyncio.StreamReader
    ) -> None:
        self._link = link
        self._faults = faults
        self._direction = direction
        self._source = source
        self._splitter = Splitter(link.number)
        self._start = b""
        self._lost_channels: set[int] = set()
        self._carried = 0
        self._queue = asyncio.Queue[tuple[float, bytes, _Last | None]](QUEUED)

    @property
    def _flow(self) -> Flow:
        flow = self._faults.flow(self._direction)
        return flow if flow.only is None or self._link.number in flow.only else _CALM

    async def read(self) -> None:
        """Queue what comes, until nothing more will."""
        last = _Last.EOF
        try:
            while data := await self._source.read(CHUNK_BYTES):
                self._faults.flow(self._direction).bytes_in += len(data)
                for raw, frame in self._units(data):
                    if await self._take(raw, frame):
                        return
                self._faults.look()
        except OSError:
            last = _Last.RESET
        if self._link.gone is not self._direction.opposite:
            await self._put(self._start + self._splitter.rest(), last)

    async def write(self) -> None:
        """Deliver what is queued, when it is due."""
        loop = asyncio.get_running_loop()
        while True:
            due_s, data, last = await self._queue.get()
            await asyncio.sleep(due_s - loop.time())
            await self._deliver(data)
            if last is _Last.CUT:
                self._link.cut(self._direction)
            elif last is _Last.RESET and not self._flow.is_swallowing:
                self._link.end(by_reset=True)
            elif last is not None:
                is_told = not self._flow.is_swallowing
                self._link.pass_eof(self._direction, is_told=is_told)

    def _units(self, data: bytes) -> Iterator[tuple[bytes, Frame | None]]:
        """Cut what is AMQP into frames: a client begins, and says that it is."""
        link = self._link
        if link.is_amqp is None and self._direction is Direction.TO_SERVER:
            self._start += data
            if self._start != PROTOCOL_HEADER and PROTOCOL_HEADER.startswith(self._start):
                return
            data, self._start = self._start, b""
            link.is_amqp = data.startswith(PROTOCOL_HEADER[:4])
        if link.is_amqp:
            yield from self._splitter.feed(data)
        else:
            yield data, None

    async def _take(self, raw: bytes, frame: Frame | None) -> bool:
        """Queue a unit as it was judged; say whether it was the last."""
        verdict = Verdict.PASS if frame is None else self._judge(frame)
        if verdict is Verdict.DROP:
            return False
        if verdict is Verdict.CUT_BEFORE:
            raw = b""
        elif verdict is Verdict.SPOIL:
            raw, verdict = raw[:-1] + b"\x00", Verdict.PASS
        last = None if verdict is Verdict.PASS else _Last.CUT
        limit = self._flow.cut_after_bytes
        if limit is not None and self._carried + len(raw) >= limit:
            raw, last = raw[: max(0, limit - self._carried)], _Last.CUT
        self._carried += len(raw)
        await self._put(raw, last)
        return last is not None

    def _judge(self, frame: Frame) -> Verdict:
        """Judge a frame; the header and bodies of a method that was dropped go with it."""
        is_content = frame.kind in {HEADER, BODY}
        is_lost = is_content and frame.channel in self._lost_channels
        verdict = self._faults.judge(self._direction, frame, is_lost=is_lost)
        if not is_content:
            self._lost_channels.discard(frame.channel)
        if verdict is Verdict.DROP:
            self._lost_channels.add(frame.channel)
        return verdict

    async def _put(self, data: bytes, last: _Last | None) -> None:
        flow = self._flow
        late_s = flow.delay_s + flow.jitter_s * self._faults.random.random()
        await self._queue.put((asyncio.get_running_loop().time() + late_s, data, last))

    async def _deliver(self, data: bytes) -> None:
        """Send a piece as the faults of this moment allow."""
        writer, counts = self._link.writer(self._direction), self._faults.flow(self._direction)
        while data:
            await self._flow.opened()
            flow = self._flow
            if flow.is_swallowing or writer.is_closing():
                counts.bytes_swallowed += len(data)
                break
            step = flow.slice_bytes or len(data)
            if flow.bytes_per_s is not None:
                step = min(step, max(1, int(flow.bytes_per_s / STEPS_PER_S)))
            piece, data = data[:step], data[step:]
            writer.write(piece)
            with contextlib.suppress(OSError):  # it is gone: the other lane has noticed
                await writer.drain()
            counts.bytes_out += len(piece)
            await asyncio.sleep(len(piece) / flow.bytes_per_s if flow.bytes_per_s else 0)
        self._faults.look()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # among them that the time is up
        async with asyncio.timeout(CLOSE_S):
            await writer.wait_closed()
    writer.transport.abort()
