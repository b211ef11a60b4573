"""Both ends of an SMTP conversation: a plain client, and a server that obeys a script."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping


class Talk:
    """A client that sends exactly the bytes it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, port: int) -> AsyncGenerator[Self]:
        """Connect, and read the greeting."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        talk = cls(reader, writer)
        assert (await talk.reply()).startswith("220 ")
        try:
            yield talk
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def say(self, *lines: str) -> str:
        """Send these lines in one packet; return the reply to the last one."""
        self.send("".join(f"{line}\r\n" for line in lines).encode())
        for _ in lines[1:]:
            await self.reply()
        return await self.reply()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    async def reply(self) -> str:
        """Read one reply; of one with several lines, all."""
        lines: list[str] = []
        async with asyncio.timeout(patient(10)):
            while not lines or lines[-1][3:4] == "-":
                lines.append((await self._reader.readline()).decode().rstrip("\r\n"))
                assert lines[-1], "the server hung up"
        return "\n".join(lines)

    async def mail(self, *recipients: str, data: bytes) -> str:
        """Send one mail; return what the server says of its data."""
        assert (await self.say("EHLO test")).startswith("250")
        assert (await self.say("MAIL FROM:<ada@mail.example>")).startswith("250")
        for rcpt in recipients:
            assert (await self.say(f"RCPT TO:<{rcpt}>")).startswith("250")
        assert (await self.say("DATA")).startswith("354")
        self.send(data + b".\r\n")
        return await self.reply()


def _open() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


@dataclass
class ScriptedRelay:
    """A server that says yes, unless the script says otherwise.

    Attributes:
        says: Replies by command word; "." is the end of the data, "" the greeting.
        extensions: What it offers.
        heard: Commands, in order.
        messages: Data as it came, dots removed.
        gate: While this is not set, whoever has sent data waits for the reply.
    """

    says: Mapping[str, str] = field(default_factory=dict[str, str])
    extensions: tuple[str, ...] = ("8BITMIME", "SMTPUTF8", "SIZE 1000000")
    heard: list[str] = field(default_factory=list[str])
    messages: list[bytes] = field(default_factory=list[bytes])
    address: str = ""
    gate: asyncio.Event = field(default_factory=_open)
    _sessions: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Self]:
        """Serve on a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]  # noqa: UP031
        async with server:
            yield self
            await asyncio.gather(*self._sessions)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            await self._talk(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(word: str, default: str) -> None:
            writer.write(self.says.get(word, default).encode() + b"\r\n")

        say("", "220 relay")
        while line := await reader.readline():
            command = line.decode().rstrip("\r\n")
            word = command.split(" ")[0].upper()
            self.heard.append(command)
            if word == "EHLO":
                offered = "".join(f"250-{name}\r\n" for name in self.extensions)
                writer.write(f"250-relay\r\n{offered}250 HELP\r\n".encode())
            elif word == "DATA" and "DATA" not in self.says:
                writer.write(b"354 go on\r\n")
                self.messages.append(await _data(reader))
                await self.gate.wait()
                say(".", "250 taken")
            elif word == "QUIT":
                say("QUIT", "221 bye")
                break
            else:
                say(word, "250 OK")


async def _data(reader: asyncio.StreamReader) -> bytes:
    lines: list[bytes] = []
    while (line := await reader.readuntil(b"\r\n")) != b".\r\n":
        lines.append(line.removeprefix(b"."))
    return b"".join(lines)
