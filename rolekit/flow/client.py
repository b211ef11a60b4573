"""The way in: send a message, ask for a reply, follow what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, overload

from rolekit.model.message import AnyMessage, Blob, Receipt, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping

    from rolekit.store.base import Executes

A = TypeVar("A", bound=Reply)
B = TypeVar("B", bound=Reply)
C = TypeVar("C", bound=Reply)


class Client(Protocol):
    """Sends messages into an app and waits for what comes back."""

    async def send(
        self,
        message: AnyMessage,
        /,
        *,
        idempotency_key: str | None = None,
        delay_s: float = 0,
        headers: Mapping[str, str] | None = None,
        stream: str | None = None,
        via: Executes | None = None,
    ) -> Receipt:
        """Send one message; return when it is durable.

        Args:
            message: Of a class that some handler takes.
            idempotency_key: A repeat under the same key returns the first receipt.
            delay_s: Seconds until it is due.
            headers: Travel on to everything the message causes.
            stream: Gives it the next position of a sequence without end.
            via: Leaves if and only if the open transaction of this connection commits: one
                of asyncpg, or `rolekit.sqlalchemy.via(session)`, to the app's own database.

        Raises:
            Unroutable: No handler takes this class.
            KeyReused: The key came before with another body.
            IntakeFull: Too much is waiting already.
            Unavailable: The broker or the database cannot be reached.
        """
        ...

    async def send_many(
        self, messages: Iterable[AnyMessage] | AsyncIterable[AnyMessage], /
    ) -> list[Receipt]:
        """Send many; return when all are durable, with one receipt each, in order."""
        ...

    @overload
    async def ask(self, message: AnyMessage, a: type[A], /, *, timeout_s: float = 30) -> A: ...
    @overload
    async def ask(
        self, message: AnyMessage, a: type[A], b: type[B], /, *, timeout_s: float = 30
    ) -> A | B: ...
    async def ask(
        self,
        message: AnyMessage,
        a: type[Reply],
        b: type[Reply] | None = None,
        /,
        *,
        timeout_s: float = 30,
    ) -> Reply:
        """Send, and wait for the first reply of these classes; it is not kept.

        Raises:
            TimedOut: None came in time; the error names the receipt.
            Failed: What was sent ended in a dead letter that nobody answered.
        """
        ...

    @overload
    def follow(
        self, sent: Receipt | str, /, *, until: type[A], timeout_s: float = 3600
    ) -> AsyncIterator[A]: ...
    @overload
    def follow(
        self, sent: Receipt | str, b: type[B], /, *, until: type[A], timeout_s: float = 3600
    ) -> AsyncIterator[A | B]: ...
    @overload
    def follow(
        self,
        sent: Receipt | str,
        b: type[B],
        c: type[C],
        /,
        *,
        until: type[A],
        timeout_s: float = 3600,
    ) -> AsyncIterator[A | B | C]: ...
    def follow(
        self,
        sent: Receipt | str,
        b: type[Reply] | None = None,
        c: type[Reply] | None = None,
        /,
        *,
        until: type[Reply],
        timeout_s: float = 3600,
    ) -> AsyncIterator[Reply]:
        """Iterate the replies to what was sent, from its beginning, up to one of `until`.

        Raises:
            UnknownId: Nothing was ever sent under this id.
            TimedOut: `until` did not come in time.
            Failed: What was sent ended in a dead letter that nobody answered.
        """
        ...

    async def result(self, sent: Receipt | str, a: type[A], /) -> A | None:
        """Return the last reply of this class, or None when there is none yet.

        Raises:
            UnknownId: Nothing was ever sent under this id.
            Failed: What was sent ended in a dead letter that nobody answered.
        """
        ...

    async def save(self, data: bytes | AsyncIterable[bytes], /, media_type: str = "") -> Blob:
        """Keep bytes under the name of their content; the same bytes are kept once."""
        ...

    async def load(self, blob: Blob, /) -> bytes:
        """Return the bytes of a blob."""
        ...
