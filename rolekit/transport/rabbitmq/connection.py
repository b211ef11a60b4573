"""A connection to the broker that comes back by itself.

aio-pika's own recovery is not used: it waits a fixed time, hides outages from whoever
publishes, and lets one bad declaration flap every channel. Here whoever needs a channel
asks for the present `Session`, works on it until it is lost, and asks again.

Source: RELIABILITY H24, H25; PITFALLS 1.1.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import ConfigError, Unavailable
from rolekit.transport.rabbitmq.address import AWAY, Address, UrlFile, explained, parse_address
from rolekit.transport.rabbitmq.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yarl import URL

log = structlog.get_logger("rolekit.rabbitmq")

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 3.0


class BrokerConnection:
    """Keeps one session open, on whichever host answers, until it is stopped.

    Args:
        address: Of the broker.
        name: Shown in the broker's list of connections.
        file: Where its URL came from: a password that changed is found there.
        session_type: Of what it keeps open; see `plain` for another.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        file: UrlFile | None = None,
        session_type: type[Session] = Session,
    ) -> None:
        self._address = address
        self._file = file
        self._session_type = session_type
        self._name = f"{name} ({socket.gethostname()} {os.getpid()})"
        self._session: Session | None = None
        self._up = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.on_block: Callable[[bool], None] = lambda _: None
        self._blocked_at_s: float | None = None
        self.reconnects = self.frame_faults = 0

    @property
    def is_blocked(self) -> bool:
        """Whether the broker takes nothing on it for now."""
        return self._blocked_at_s is not None

    @property
    def current(self) -> Session | None:
        """The session, if there is one now."""
        return self._session

    @property
    def blocked_s(self) -> float:
        """For how long the broker has read nothing of this connection, seconds."""
        blocked_at_s = self._blocked_at_s
        return 0.0 if blocked_at_s is None else time.monotonic() - blocked_at_s

    async def start(self) -> None:
        """Connect, and keep connected from then on. Does nothing the second time.

        Raises:
            Unavailable: No host answers.
            ConfigError: One answers, but not to these credentials, this vhost or this port.
        """
        async with self._opening:
            if self._running is None:
                await self._connect()
                # Owned by stop(), which ends it.
                self._running = asyncio.create_task(self._keep(), name=f"broker {self._name}")

    async def stop(self) -> None:
        """Close for good. Safe to call twice, and before start."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def abort(self) -> None:
        """Break the connection without a word."""
        if self._session is not None:
            self._session.abort()

    async def session(self, timeout_s: float) -> Session:
        """Return what is open to the broker, once something is.

        Raises:
            Unavailable: There is none within that time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    session = self._session
                    if session is not None and not session.lost.done():
                        return session
                    self._up.clear()
                    await self._up.wait()
        except TimeoutError:
            raise Unavailable(
                f"The broker {self._address.shown} cannot be reached; trying on."
            ) from None

    def _shuffled(self) -> Sequence[URL]:
        urls = list(self._address.urls)
        random.shuffle(urls)
        return urls

    async def _read_again(self) -> None:
        """Take the address from its file, if that can be read."""
        if self._file is None:
            return
        try:
            self._address = parse_address(await asyncio.to_thread(self._file.read))
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            log.warning(
                "the file with the broker's URL cannot be used; the URL from before is",
                file=str(self._file.path), error=str(error),
            )  # fmt: skip

    async def _connect(self) -> None:
        """Open a session on the first host that answers."""
        await self._read_again()
        wrong: Exception | None = None
        for url in self._shuffled():
            session = self._session_type()
            try:
                await session.open(url, self._name)
            except AWAY as error:
                await session.close()
                wrong = explained(error, self._address, url)
            except BaseException:
                await session.close()
                raise
            else:
                session.on_block = self._blocked
                self._session = session
                self._up.set()
                return
        assert wrong is not None  # noqa: S101 - an address has a host
        raise wrong

    def _blocked(self, blocked: bool) -> None:  # noqa: FBT001 - as the broker says it
        if blocked:
            if self._blocked_at_s is None:
                self._blocked_at_s = time.monotonic()
            log.warning("the broker is short of memory or disk and takes nothing for now")
        else:
            self._blocked_at_s = None
            log.info("the broker takes messages again")
        self.on_block(blocked)

    async def _keep(self) -> None:
        while True:
            assert self._session is not None  # noqa: S101 - the loop below leaves it open
            session = self._session
            why = await asyncio.shield(session.lost)
            self._session = None
            self._up.clear()
            # At once: saying good-bye takes up to seconds, and a front refuses meanwhile
            # what comes in while the broker is said to take nothing.
            self._blocked_at_s = None
            await session.close()
            if session.is_blocked:
                self.on_block(False)  # noqa: FBT003 - as the broker says it
            self.reconnects += 1
            self.frame_faults += session.has_fault
            log.warning("connection to the broker lost; connecting again", reason=why)
            await self._reconnect()
            log.info("connected to the broker again", broker=self._address.shown)

    async def _reconnect(self) -> None:
        wait_s = BACKOFF_FIRST_S
        while True:
            await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311 - jitter
            try:
                await self._connect()
            except (Unavailable, ConfigError) as error:
                log.info("the broker cannot be reached yet", error=str(error))
                wait_s = min(wait_s * 2, BACKOFF_MAX_S)
            else:
                return
