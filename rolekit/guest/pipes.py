"""The ends of a guest's pipes, on the loop of its instance."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

import structlog

from rolekit.errors import GuestFailed
from rolekit.guest.current import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.guest.current import InWork

log = structlog.get_logger("rolekit.guest")

TAIL_BYTES = 64 * 1024
LINE_BYTES = 4096
"""A line of standard error is cut behind this in the log."""
SAID_BYTES = 64 * 1024
"""So much of standard error is logged for one call; the rest is counted."""


class Stdin(asyncio.BaseProtocol):
    """Writes to a guest."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let nobody wait for a reader that is gone; its end is told by standard output."""
        del exc
        self._transport = None
        self._may_write.set()

    def pause_writing(self) -> None:
        """Have `write` wait."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Have `write` go on."""
        self._may_write.set()

    async def write(self, data: bytes) -> None:
        """Write, and wait while much is waiting to be read by the guest."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            if not self._may_write.is_set():
                await self._may_write.wait()

    def end(self) -> None:
        """Let the guest read an end; what it writes may still be read."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self, *, at_once: bool = False) -> None:
        """Let the guest read an end, behind what was written; or drop that."""
        if self._transport is None:
            return
        is_ending = self._transport.is_closing() and not self._transport.get_write_buffer_size()
        if not is_ending:  # asyncio would tell the protocol of its end a second time, and fail
            (self._transport.abort if at_once else self._transport.close)()


class Stdout(asyncio.Protocol):
    """Reads from a guest, no more than it may write for one call.

    Args:
        cap_bytes: So much for one call.

    Attributes:
        on_noise: Called when the guest writes, or ends, and nobody has a call under way.
    """

    def __init__(self, cap_bytes: int) -> None:
        self._cap_bytes = self._left_bytes = cap_bytes
        self._held = bytearray()
        self._changed: asyncio.Future[None] | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._is_at_end = False
        self._in_call = False
        self.on_noise: Callable[[], None] = lambda: None

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is there that nobody asked for."""
        return not self._held and not self._is_at_end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Hold what came, up to the cap."""
        self._left_bytes -= len(data)
        if self._left_bytes >= 0:
            self._held += data
        elif self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        del exc
        self._is_at_end = True
        self._wake()

    def begin(self) -> None:
        """Begin a call."""
        self._in_call = True
        self._left_bytes = self._cap_bytes - len(self._held)

    def end(self) -> None:
        """End a call: whatever comes now is noise."""
        self._in_call = False

    def close(self) -> None:
        """Read no more."""
        if self._transport is not None:
            self._transport.close()

    async def read_until(self, mark: bytes) -> bytes:
        """Return what comes up to a mark, and the mark.

        Raises:
            GuestFailed: The guest ended before, or wrote more than it may.
        """
        looked = 0
        while (at := self._held.find(mark, looked)) < 0:
            looked = max(0, len(self._held) - len(mark) + 1)
            await self._more()
        return self._taken(at + len(mark))

    async def read_exactly(self, size_bytes: int) -> bytes:
        """Return so many bytes.

        Raises:
            GuestFailed: The guest ended before, or so many are more than it may write.
        """
        if size_bytes > self._cap_bytes:
            raise GuestFailed(f"it announced {size_bytes} bytes, more than output_mb allows.")
        while len(self._held) < size_bytes:
            await self._more()
        return self._taken(size_bytes)

    async def read_to_end(self) -> bytes:
        """Return everything up to the end.

        Raises:
            GuestFailed: It wrote more than it may.
        """
        while not self._is_at_end:
            await self._more(or_end=True)
        self._check_cap()
        return self._taken(len(self._held))

    def _taken(self, size_bytes: int) -> bytes:
        taken = bytes(memoryview(self._held)[:size_bytes])
        del self._held[:size_bytes]
        return taken

    async def _more(self, *, or_end: bool = False) -> None:
        self._check_cap()
        if self._is_at_end and not or_end:
            part = f"in the middle of an answer ({len(self._held)} bytes)" if self._held else ""
            raise GuestFailed(f"it ended {part or 'instead of answering'}.")
        self._changed = asyncio.get_running_loop().create_future()
        try:
            await self._changed
        finally:
            self._changed = None

    def _check_cap(self) -> None:
        if self._left_bytes < 0:
            raise GuestFailed(
                f"it wrote more than the {self._cap_bytes >> 20} MB that output_mb allows."
            )

    def _wake(self) -> None:
        if self._changed is not None:
            if not self._changed.done():
                self._changed.set_result(None)
        elif not self._in_call:
            self.on_noise()


class Stderr(asyncio.Protocol):
    """Makes log lines of what a guest says, and keeps the end of it.

    Args:
        guest: Which, for the log: "Role.attribute".

    Attributes:
        in_work: What each line is about.
    """

    def __init__(self, guest: str) -> None:
        self._guest = guest
        self.in_work = NOTHING
        self.tail = bytearray()
        self._line = bytearray()
        self._said_bytes = 0
        self._transport: asyncio.BaseTransport | None = None
        self._ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def begin(self, in_work: InWork) -> None:
        """Begin a call, for this message."""
        self.in_work, self._said_bytes = in_work, 0

    def data_received(self, data: bytes) -> None:
        """Log whole lines."""
        self.tail += data
        del self.tail[:-TAIL_BYTES]
        before = self._said_bytes
        self._said_bytes += len(data)
        if before > SAID_BYTES:
            return
        if self._said_bytes > SAID_BYTES:
            log.warning(
                "a guest says too much; not logged", guest=self._guest, **self.in_work.fields()
            )
            self._line.clear()
            return
        *lines, last = (self._line + data).split(b"\n")
        for line in lines:
            self._say(line)
        self._line = last[: LINE_BYTES + 1]

    def connection_lost(self, exc: Exception | None) -> None:
        """Log what is left."""
        del exc
        if self._line:
            self._say(self._line)
        self._ended.set()

    async def wait_closed(self) -> None:
        """Wait for its end."""
        await self._ended.wait()

    def close(self) -> None:
        """Read no more."""
        if self._transport is not None:
            self._transport.close()

    def _say(self, line: bytes | bytearray) -> None:
        said = line[:LINE_BYTES].decode(errors="backslashreplace").rstrip("\r")
        log.info("a guest says", guest=self._guest, said=said, **self.in_work.fields())


class Pipes:
    """The three pipes of a guest: our ends, and the descriptors of its ends.

    Args:
        guest: Which, for the log: "Role.attribute".
        cap_bytes: Of what it may write to standard output for one call.
        is_server: It is not spoken to by its pipes: what it writes to standard output is
            logged too, and nothing comes in `stdout`.
    """

    def __init__(self, guest: str, cap_bytes: int, *, is_server: bool = False) -> None:
        self.stdin = Stdin()
        self.stdout = Stdout(cap_bytes)
        self.stderr = Stderr(guest)
        self.said = Stderr(guest) if is_server else None
        self.theirs: list[int] = []

    async def open(self) -> None:
        """Make them."""
        loop = asyncio.get_running_loop()
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        self.theirs = [theirs]
        await loop.connect_write_pipe(lambda: self.stdin, os.fdopen(ours, "wb", 0))
        for protocol in (self.said or self.stdout, self.stderr):
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            self.theirs.append(theirs)
            await loop.connect_read_pipe(_as_it_is(protocol), os.fdopen(ours, "rb", 0))

    def give_away(self) -> None:
        """Close the descriptors of the guest's ends, which it has by now."""
        for fd in self.theirs:
            os.close(fd)
        self.theirs = []

    def begin(self, in_work: InWork) -> None:
        """Begin a call, for this message."""
        self.stdout.begin()
        self.log_for(in_work)

    def log_for(self, in_work: InWork) -> None:
        """Let what the guest says be logged with this message."""
        self.stderr.begin(in_work)
        if self.said is not None:
            self.said.begin(in_work)

    def tail(self) -> bytes:
        """Return the last that the guest said."""
        last = bytes(self.stderr.tail)
        return last if last or self.said is None else bytes(self.said.tail)

    def close(self) -> None:
        """Close everything."""
        self.give_away()
        self.stdin.close(at_once=True)
        (self.said or self.stdout).close()
        self.stderr.close()


def _as_it_is(protocol: asyncio.Protocol) -> Callable[[], asyncio.Protocol]:
    return lambda: protocol
