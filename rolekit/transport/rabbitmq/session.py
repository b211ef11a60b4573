"""One life of a connection: socket, demultiplexer, aio-pika above it, channels."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar

import aio_pika
import structlog
from aio_pika.abc import ConnectionParameter

from rolekit.errors import ConfigError, RolekitError
from rolekit.transport.rabbitmq.address import AWAY, HEARTBEAT_S
from rolekit.transport.rabbitmq.demux import MAX_FRAME, Demux, FrameError, Tap
from rolekit.transport.rabbitmq.seam import check_seam, other_seam
from rolekit.transport.rabbitmq.wire import HEARTBEAT_FRAME

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from aio_pika.abc import AbstractChannel
    from aiormq.abc import AbstractChannel as Underlay
    from aiormq.abc import DeliveredMessage
    from yarl import URL

log = structlog.get_logger("rolekit.rabbitmq")

CONNECT_S = 10.0
RPC_S = 20.0
CHANNEL_MAX = 2047
"""As many as a broker allows that does not say."""
USER_TIMEOUT_MS = 20_000
"""Written, and not acknowledged for so long: the line is dead. Source: RELIABILITY E11."""


@contextmanager
def lost_not_cancelled() -> Generator[None]:
    """Raise what is no cancellation of this task as what it is: a lost connection.

    aiormq gives a silent connection up by cancelling its own reader, and ends every call
    under way on it with that `CancelledError`. Let through, it would end whoever called.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the broker fell silent") from None


class _Protocol(asyncio.StreamReaderProtocol):
    """aiormq's reader, behind the demultiplexer."""

    def __init__(
        self, reader: asyncio.StreamReader, demux: Demux, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(reader, loop=loop)
        self._demux = demux
        self._own_loop = loop
        self._fed_at = loop.time()
        self._wire: asyncio.BaseTransport | None = None
        self.is_paused = False
        self.on_resume: Callable[[], None] = lambda: None
        self.fault: FrameError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember what to abort when the stream makes no sense."""
        self._wire = transport
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take what is ours, and let aiormq see the rest, or at least that there is life."""
        if self.fault is not None:
            return
        try:
            rest = self._demux.feed(data)
        except FrameError as error:
            self.fault = error
            log.error("closing the connection to the broker", reason=str(error))  # noqa: TRY400
            if isinstance(self._wire, asyncio.Transport):
                self._wire.abort()
            return
        now = self._own_loop.time()
        if rest:
            self._fed_at = now
            super().data_received(rest)
        elif now - self._fed_at > HEARTBEAT_S / 4:
            # A busy broker sends no heartbeats, and aiormq sees nothing else.
            self._fed_at = now
            super().data_received(HEARTBEAT_FRAME)

    def pause_writing(self) -> None:
        """Write no more for now: the socket's buffer is full."""
        self.is_paused = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """Write again."""
        self.is_paused = False
        super().resume_writing()
        self.on_resume()


class _Factory:
    """Opens the socket for aiormq, with the demultiplexer in front of its reader.

    It is an `aiormq.connection.TransportFactory` in all but name: see `seam`.
    """

    def __init__(self, demux: Demux) -> None:
        self._demux = demux
        self.protocol: _Protocol | None = None
        self.transport: asyncio.Transport | None = None

    async def create(
        self,
        url: URL,
        **kwargs: Any,  # noqa: ANN401 - as aiormq has it
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open it; TLS where the URL says amqps."""
        provider = kwargs.pop("ssl_context_provider", None)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 20, loop=loop)
        protocol = _Protocol(reader, self._demux, loop)
        options: dict[str, Any] = {}
        if url.scheme == "amqps":
            options["ssl"] = await provider.get_context()
            options["server_hostname"] = url.query.get("server_name", url.host)
        transport, _ = await loop.create_connection(
            lambda: protocol, url.host or "localhost", url.port or 5672, **options
        )
        _keep_alive(transport.get_extra_info("socket"))
        self.protocol, self.transport = protocol, transport
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


def mute_drivers() -> None:
    """Mute aiormq and aio-pika, whose tracebacks of each outage say less than our lines."""
    for name in ("aiormq", "aio_pika"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", USER_TIMEOUT_MS),
    ):  # fmt: skip
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


class _Connection(aio_pika.Connection):
    """aio-pika's plain connection, which lets the transport factory through."""

    PARAMETERS = (
        *aio_pika.Connection.PARAMETERS,
        ConnectionParameter(name="transport_factory", parser=lambda it: it, is_kwarg=True),
    )


class Channel:
    """One channel of a session, and the tap that takes its frames.

    Attributes:
        number: On the wire.
        lost: Done when the channel is closed, by whomever; its result says why.
    """

    def __init__(self, session: Session, opened: AbstractChannel, calls: Underlay) -> None:
        self._session = session
        self._opened = opened
        self.calls = calls
        self.number = calls.number
        self._tap = Tap()
        session.demux.taps.pop(self.number, None)
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        closing: asyncio.Future[Any] = calls.closing  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        closing.add_done_callback(self._closed)

    def tap(self, tap: Tap) -> None:
        """Let this channel's messages and confirms go there from now on."""
        self._session.demux.taps[self.number] = tap
        self._tap = tap

    def write(self, data: bytes) -> None:
        """Write frames of this channel, whole ones; nothing once it is lost."""
        if not self.lost.done():
            self._session.write(data)

    async def take(self, message: DeliveredMessage) -> None:
        """Take what aiormq delivers: nothing, since the tap takes it first."""
        raise RolekitError(
            f"aiormq delivered {message!r}, which the demultiplexer should have taken.",
            fix="Set ROLEKIT_RABBITMQ_PLAIN=1, or install aiormq 7.2.4.",
        )

    async def sent(self) -> None:
        """Wait until what was written is on its way: it is."""

    def lose(self, why: str) -> None:
        """Note that it is gone.

        Its tap stays, and drops what the broker still sends, until the number is used anew.
        """
        self._tap.mute()
        if not self.lost.done():
            self.lost.set_result(why)

    def _closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self.lose(str(error or "closed"))

    async def close(self) -> None:
        """Close it, which hands back what it holds."""
        self._tap.mute()
        with suppress(*AWAY), lost_not_cancelled():
            async with asyncio.timeout(RPC_S):
                await self._opened.close()
        self.lose("closed")


def _frame_max(tuned: int, url: URL) -> int:
    """Return how many bytes a frame may have that goes to this broker.

    Raises:
        ConfigError: It may send larger ones than the demultiplexer takes.
    """
    if not 0 < tuned <= MAX_FRAME:
        raise ConfigError(
            f"The broker's frame_max is {tuned or 'unlimited'}; at most {MAX_FRAME} bytes are "
            "expected.",
            fix="Leave it out of rabbitmq.conf: RabbitMQ's own is 131072.",
        )
    return min(tuned, int(url.query.get("frame_max", tuned)))


class Session:
    """One life of a connection.

    Attributes:
        demux: Takes what is ours from its stream.
        is_blocked: The broker does not read what is published now.
        lost: Done when the connection is gone; its result says why.
    """

    channel_type: ClassVar[type[Channel]] = Channel

    def __init__(self) -> None:
        self.demux = Demux(self._block)
        self.is_blocked = False
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.frame_max = 131_072
        self.version = ""
        self.on_block: Callable[[bool], None] = lambda _: None
        self._factory = _Factory(self.demux)
        self._connection: aio_pika.Connection | None = None
        self._channels: set[Channel] = set()
        self._channel_max = CHANNEL_MAX
        self._last_number = 0

    async def open(self, url: URL, name: str) -> None:
        """Connect.

        Raises:
            ConfigError: This release of aiormq has no place for the demultiplexer.
        """
        check_seam()
        mute_drivers()
        connection = _Connection(url.update_query(name=name), transport_factory=self._factory)
        self._connection = connection  # close() ends it, also where it cannot connect
        with lost_not_cancelled():
            await connection.connect(timeout=CONNECT_S)
        self._adopt(connection, url)
        if self._factory.protocol is None:
            raise other_seam("it did not use the transport that it was given")

    def _adopt(self, connection: aio_pika.Connection, url: URL) -> None:
        """Take over a connection that is open."""
        self._connection = connection
        underlay = connection.transport.connection if connection.transport else None
        assert underlay is not None  # noqa: S101 - connect set it
        tuned = getattr(underlay, "connection_tune", None)
        self._channel_max = getattr(tuned, "channel_max", 0) or CHANNEL_MAX
        self.frame_max = _frame_max(getattr(tuned, "frame_max", 0), url)
        self.version = str(underlay.server_properties.get("version", ""))
        closing: asyncio.Future[Any] = underlay.closing  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        closing.add_done_callback(self._closed)

    @property
    def has_fault(self) -> bool:
        """Whether something came that made no sense; the connection is closed for it."""
        protocol = self._factory.protocol
        return protocol is not None and protocol.fault is not None

    @property
    def can_write(self) -> bool:
        """Whether the socket takes more."""
        protocol = self._factory.protocol
        return protocol is not None and not protocol.is_paused and not self.lost.done()

    def on_resume(self, call: Callable[[], None]) -> None:
        """Call this when the socket takes more again."""
        assert self._factory.protocol is not None  # noqa: S101 - it is open
        self._factory.protocol.on_resume = call

    def write(self, data: bytes) -> None:
        """Write whole frames."""
        transport = self._factory.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    async def channel(self, *, confirms: bool = False) -> Channel:
        """Open a channel.

        Raises:
            ConnectionError: The session is over: it was open when it was handed out.
        """
        if self._connection is None:
            raise ConnectionError("the connection was closed")
        opened = self._connection.channel(
            self._free_number(), publisher_confirms=confirms, on_return_raises=False
        )
        with lost_not_cancelled():
            async with asyncio.timeout(RPC_S):
                await opened.initialize()
                calls = await opened.get_underlay_channel()
        channel = self.channel_type(self, opened, calls)
        self._channels.add(channel)
        channel.lost.add_done_callback(lambda _: self._channels.discard(channel))
        return channel

    def _free_number(self) -> int:
        """Choose the number of a new channel: the one that was free for longest.

        aiormq takes the lowest. When the broker has closed a channel, it may then open
        another one under its number before it has answered, which ends the connection.
        """
        connection = None if self._connection is None else self._connection.transport
        used = {} if connection is None else connection.connection.channels
        for _ in range(self._channel_max):
            self._last_number = self._last_number % self._channel_max + 1
            if self._last_number not in used:
                break
        return self._last_number

    @asynccontextmanager
    async def brief_channel(self) -> AsyncGenerator[Channel]:
        """Open a channel for some calls; one that fails takes nothing else with it."""
        channel = await self.channel()
        try:
            with lost_not_cancelled():
                yield channel
        finally:
            await asyncio.shield(channel.close())

    def _block(self, blocked: bool) -> None:  # noqa: FBT001 - as the broker says it
        self.is_blocked = blocked
        self.on_block(blocked)

    def _closed(self, closing: asyncio.Future[Any]) -> None:
        protocol = self._factory.protocol
        error = None if closing.cancelled() else closing.exception()
        fault = None if protocol is None else protocol.fault
        why = str(fault or error or "closed")
        for channel in list(self._channels):
            channel.lose(why)
        if not self.lost.done():
            self.lost.set_result(why)

    def abort(self) -> None:
        """Break the line without a word."""
        if self._factory.transport is not None:
            self._factory.transport.abort()

    async def close(self) -> None:
        """Say good-bye, within a bound."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*AWAY), lost_not_cancelled():
                async with asyncio.timeout(3):
                    await connection.close()
        self.abort()
        if not self.lost.done():
            self.lost.set_result("closed")
