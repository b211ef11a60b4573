"""What a handler may do beside returning; `flow` makes one for each call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, LiteralString, Never, ParamSpec, Protocol

from typing_extensions import TypeVar

from rolekit.model.message import Blob, State

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterable, Awaitable, Callable, Mapping

R = TypeVar("R")
S = TypeVar("S", bound=State)
P = ParamSpec("P")
Sends = TypeVar("Sends", contravariant=True, default=Never)  # noqa: PLC0105 - the public name


class Transaction(Protocol):
    """The transaction of a step; it commits with the step, not before."""

    async def execute(self, sql: LiteralString, /, *args: object) -> int:
        """Run a statement; return how many rows it touched."""
        ...

    async def fetch(self, into: type[R], sql: LiteralString, /, *args: object) -> list[R]:
        """Return all rows, each converted to `into`."""
        ...

    async def fetch_one(self, into: type[R], sql: LiteralString, /, *args: object) -> R | None:
        """Return the first row converted to `into`, or None when there is none."""
        ...


class Context(ABC, Generic[Sends]):
    """What one call of a handler knows and may do.

    `Context` sends nothing; `Context[Reminder | Audit]` may `send` these.
    """

    @property
    @abstractmethod
    def id(self) -> str:
        """Id of the message, in a gather of the run; the same on every attempt."""

    @property
    @abstractmethod
    def root_id(self) -> str:
        """Id of the message from outside that caused this one."""

    @property
    @abstractmethod
    def key(self) -> str | None:
        """Key of a keyed handler, in a gather of the sequence; else None."""

    @property
    @abstractmethod
    def attempt(self) -> int:
        """1 for the first; what was handed back does not count."""

    @property
    @abstractmethod
    def sent_at(self) -> dt.datetime:
        """When the message was sent, UTC; when it was due, in a cron handler."""

    @property
    @abstractmethod
    def now(self) -> dt.datetime:
        """The time by rolekit's clock, UTC; a test can move it."""

    @property
    @abstractmethod
    def time_left_s(self) -> float:
        """Seconds until this call is cancelled."""

    @property
    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """What travels on to everything this message causes."""

    @abstractmethod
    def write(self, sql: LiteralString, /, *args: object, expect: int | None = None) -> None:
        """Buffer a statement; it runs when the step commits.

        Args:
            sql: With $1, $2, ... for the arguments.
            args: In their order.
            expect: How many rows it must touch, else the step fails.
        """

    @abstractmethod
    def send(
        self,
        message: Sends,
        /,
        *,
        delay_s: float = 0,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Send a message beside what is returned, outside any sequence; return its id."""

    @abstractmethod
    async def tx(self) -> Transaction:
        """Open the transaction of this step, to read what is then written."""

    @abstractmethod
    async def state(self, cls: type[S], /, key: str | None = None) -> S:
        """Load a state of this key or sequence; changes to it are saved with the step."""

    @abstractmethod
    async def once(
        self,
        name: str,
        result: type[R],
        call: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Keep what `call` returns for this message, in a commit of its own.

        Another attempt gets what was kept. A crash between the call and its commit calls
        again, so pass `id` on as an idempotency key.
        """

    @abstractmethod
    async def save(self, data: bytes | AsyncIterable[bytes], /, media_type: str = "") -> Blob:
        """Keep bytes under the name of their content; the same bytes are kept once."""

    @abstractmethod
    async def load(self, blob: Blob, /) -> bytes:
        """Return the bytes of a blob."""
