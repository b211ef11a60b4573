"""Programs that listen and speak a protocol of yours: each call has a connection of its own."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from rolekit.errors import GuestFailed
from rolekit.guest.pipes import Stdin, Stdout
from rolekit.guest.servers import PROBE_S, Server, until_well
from rolekit.guest.talks import Session

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from rolekit.guest.servers import Door

S = TypeVar("S", bound=Session)


class Serves(Server[S]):
    r"""A program that listens, spoken to by a `Session` of yours.

    Each call of one of its methods has a connection of its own, so nothing is out of step
    after one that failed by `Retry` or `Reject`.

        class Spamd(Session):
            async def symbols(self, mail: bytes) -> bytes:
                await self.write(b"SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(mail))
                await self.write(mail)
                return await self.read_to_end()

        class Filter(VMRole):
            spamd = Guest(Serves(Spamd, "spamd", "-p", "{port}"), host=Sandbox())

    Its `ready` is called on each connection, before anything else: for a greeting. Its
    `check` is called on a connection of its own until the guest is well, and while it is
    idle.

    Args:
        session: Class that speaks its protocol.
        command: Program and arguments, as for `Server`.
        port: Where the program listens, if it cannot be told.
        in_flight: Calls at once, to one guest.
    """

    def __init__(
        self,
        session: Callable[[Stdin, Stdout], S],
        /,
        *command: str,
        port: int | None = None,
        in_flight: int = 1,
    ) -> None:
        super().__init__(*command, port=port, in_flight=in_flight)
        self._session = session

    def serve(self, door: Door) -> S:
        """Begin to talk."""
        return cast("S", Calls(self._session, door))


class Calls:
    """The methods of a session, each on a connection of its own.

    Args:
        session: Class that speaks the protocol.
        door: The way to the guest.
    """

    is_noisy = False  # what comes after an answer ends with its connection

    def __init__(self, session: Callable[[Stdin, Stdout], Session], door: Door) -> None:
        self._session = session
        self._door = door
        self._open: set[_Connection] = set()
        self.tried = f"nobody listens at {door.address}"

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        """Return what calls this method on a new connection."""
        if name.startswith("_"):
            raise AttributeError(name)

        async def call(*args: object, **kwargs: object) -> object:
            async with self._connected() as session:
                called: Any = getattr(session, name)
                return await called(*args, **kwargs)

        return call

    async def ready(self) -> None:
        """Wait until the guest takes connections, and greets and checks well."""
        await until_well(self)

    async def check(self) -> None:
        """See that the guest takes connections, and greets and checks well."""
        at = self._door.address
        try:
            async with asyncio.timeout(PROBE_S), self._connected() as session:
                await session.check()
        except TimeoutError:
            raise GuestFailed(f"{at} did not answer in {PROBE_S:g} s.") from None
        except GuestFailed as error:
            raise GuestFailed(f"{at}: {error.what}") from error

    def close(self) -> None:
        """Let go of every connection."""
        for made in self._open:
            made.abort()
        self._open.clear()

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Session]:
        try:
            made = await self._door.connect()
        except OSError as error:
            why = error.strerror or str(error)
            raise GuestFailed(f"it takes no connection: {why}.") from error
        connection = await _Connection.on(made, self._door.cap_bytes)
        self._open.add(connection)
        try:
            session = self._session(connection.stdin, connection.stdout)
            await session.ready()
            yield session
        finally:
            self._open.discard(connection)
            connection.close()


class _Connection(asyncio.Protocol):
    """A connection, as the two pipes that a session is used to."""

    def __init__(self, cap_bytes: int) -> None:
        self.stdin = Stdin()
        self.stdout = Stdout(cap_bytes)
        self.stdout.begin()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def on(cls, made: socket.socket, cap_bytes: int) -> _Connection:
        connection = cls(cap_bytes)
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: connection, sock=made)
        except BaseException:
            made.close()
            raise
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.stdin.connection_made(transport)
        self.stdout.connection_made(transport)

    def pause_writing(self) -> None:
        self.stdin.pause_writing()

    def resume_writing(self) -> None:
        self.stdin.resume_writing()

    def data_received(self, data: bytes) -> None:
        self.stdout.data_received(data)

    def eof_received(self) -> bool:
        self.stdout.connection_lost(None)
        return True  # it may still read

    def connection_lost(self, exc: Exception | None) -> None:
        self.stdin.connection_lost(exc)
        self.stdout.connection_lost(exc)

    def close(self) -> None:
        """End it, behind what was written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()
