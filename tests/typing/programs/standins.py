"""What the programs would import from libraries that are not installed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType


class TemporaryFailure(Exception):
    """What a mail library raises for 4xx."""


class TooManyRequests(Exception):
    """What a client of a busy service raises."""

    retry_after_s: float = 1


class Closing:
    """Something to enter and leave."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave."""


class Translator(Closing):
    """A service that answers with text."""

    async def complete(self, text: str) -> str:
        return text.upper()


class Warehouse(Closing):
    """Keeps rows; a job id makes a repeat harmless."""

    def __init__(self) -> None:
        self.loads: list[tuple[str, list[tuple[int, str]], str]] = []

    async def load(self, table: str, rows: list[tuple[int, str]], *, job_id: str) -> None:
        self.loads.append((table, rows, job_id))


class Connection:
    """A connection of a database pool, as asyncpg's."""

    async def execute(self, query: str, /, *args: object) -> object:
        return (query, args)

    def transaction(self) -> AbstractAsyncContextManager[object]:
        return Closing()


class Lease(Connection, Closing):
    """A connection while it is taken."""


class Pool:
    """A database pool."""

    def acquire(self) -> Lease:
        return Lease()


pool = Pool()


async def smtp_server(listening: socket.socket) -> AsyncIterator[tuple[str, list[str], bytes]]:
    """Yield one mail after another: sender, recipients, text."""
    yield str(listening.getsockname()), ["reader@example.org"], b""


def pictures(raw: bytes) -> Iterable[bytes]:
    """Return the pictures in a letter."""
    return [raw[:1]] if raw else []


async def cut(film: bytes) -> AsyncIterator[bytes]:
    """Yield the sound of one scene after another."""
    yield film


def download(url: str) -> bytes:
    """Fetch a picture."""
    return url.encode()


def shrink(data: bytes) -> bytes:
    """Make a picture small; empty when it is none."""
    return data[:10]


def montage(data: Sequence[bytes]) -> bytes:
    """Put pictures side by side."""
    return b"".join(data)
