"""Enough of a broker for one client to begin, be given what it publishes, and end.

It keeps nothing and routes nothing: every message goes to whoever consumed last. With it a
zygote rehearses what its instances will do (`wiring/rehearsal.py`), without a broker.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader, ProtocolHeader

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pamqp.base import Frame
    from pamqp.common import FieldTable

_HEAD_BYTES, _END_BYTES = 7, 1
_PROPERTIES: FieldTable = {
    "version": "4.0",
    "capabilities": {"publisher_confirms": True, "basic.nack": True},
}
_FRAME_MAX, _CHANNEL_MAX = 131_072, 2047


class StandIn:
    """A broker for a moment.

    Attributes:
        url: Of it.
        is_settled: Set once a message was acked.
    """

    def __init__(self) -> None:
        self.url = ""
        self.is_settled = asyncio.Event()
        self._consumer: tuple[_Peer, int, str] | None = None
        self._tag = 0

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[str]:
        """Listen inside the block; give the URL."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            yield f"amqp://guest:guest@127.0.0.1:{port}/"

    def consume(self, peer: _Peer, channel: int, tag: str) -> None:
        """Deliver there from now on."""
        self._consumer = peer, channel, tag

    def deliver(self, header: ContentHeader, body: bytes) -> None:
        """Deliver a message, if anybody consumes."""
        if self._consumer is None:
            return
        peer, channel, tag = self._consumer
        self._tag += 1
        peer.say(channel, commands.Basic.Deliver(tag, self._tag, exchange="", routing_key=""))
        peer.say(channel, header)
        peer.say(channel, ContentBody(body))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await _Peer(self, reader, writer).serve()
        writer.close()


class _Peer:
    """One connection."""

    def __init__(
        self, broker: StandIn, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._broker = broker
        self._reader, self._writer = reader, writer
        self._published: dict[int, int] = {}

    async def serve(self) -> None:
        """Answer until it closes."""
        await self._reader.readexactly(len(ProtocolHeader().marshal()))
        self.say(0, commands.Connection.Start(0, 9, _PROPERTIES, "PLAIN"))
        while True:
            channel, got = await self._read()
            if isinstance(got, commands.Basic.Publish):
                await self._publish(channel)
            elif (answer := self._answer(channel, got)) is not None:  # empty ones are falsy
                self.say(channel, answer)
            if isinstance(got, commands.Connection.Close):
                return

    async def _read(self) -> tuple[int, object]:
        head = await self._reader.readexactly(_HEAD_BYTES)
        size = int.from_bytes(head[3:], "big")
        rest = await self._reader.readexactly(size + _END_BYTES)
        _, channel, got = frame.unmarshal(head + rest)
        return channel, got

    def _answer(self, channel: int, got: object) -> Frame | None:
        match got:
            case commands.Connection.StartOk():
                return commands.Connection.Tune(_CHANNEL_MAX, _FRAME_MAX, 0)
            case commands.Basic.Consume(consumer_tag=tag):
                self._broker.consume(self, channel, tag)
                return commands.Basic.ConsumeOk(tag)
            case commands.Basic.Cancel(consumer_tag=tag):
                return commands.Basic.CancelOk(tag)
            case commands.Basic.Ack():
                self._broker.is_settled.set()
            case commands.Queue.Declare(queue=name):
                return commands.Queue.DeclareOk(name, 0, 0)
            case _:
                pass
        answers = getattr(got, "valid_responses", [])
        if not answers:
            return None
        ok: type[Frame] = getattr(commands, answers[0].split(".")[0])
        made: Frame = getattr(ok, answers[0].split(".")[1])()
        return made

    async def _publish(self, channel: int) -> None:
        """Confirm a message, and deliver it; a message without a body has no more frames."""
        _, header = await self._read()
        assert isinstance(header, ContentHeader)  # noqa: S101 - what follows a publish
        body = b""
        while len(body) < (header.body_size or 0):
            _, part = await self._read()
            assert isinstance(part, ContentBody)  # noqa: S101 - likewise
            body += part.value or b""
        self._published[channel] = self._published.get(channel, 0) + 1
        self.say(channel, commands.Basic.Ack(self._published[channel]))
        self._broker.deliver(header, body)

    def say(self, channel: int, what: Frame | ContentHeader | ContentBody) -> None:
        """Send a frame."""
        self._writer.write(frame.marshal(what, channel))
