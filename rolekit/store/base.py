"""What every store promises: the state that messages leave behind, committed whole.

A `Step` is everything one delivery wants to change. `commit` takes many steps in one
transaction: for each, its inbox row decides. Row taken: the message had its outcome, and
nothing else of the step happens. Row free: all of it happens.

Two stores keep this contract: Postgres, and memory for tests. One conformance suite,
`tests/conformance/store.py`, runs on both. The data are in `records`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from rolekit.store.buckets import Buckets
from rolekit.store.flights import Flight, Held
from rolekit.store.keys import KeyStore
from rolekit.store.letters import REPLAYED, Letters, LetterStore
from rolekit.store.of_sequences import OfSequences
from rolekit.store.records import (
    OUTBOX,
    REPLIES,
    SCHEDULE,
    Accept,
    BlobInfo,
    Commit,
    DeadLetterRow,
    Due,
    KeyRow,
    Opening,
    Outcome,
    Outgoing,
    Release,
    Reply,
    Saved,
    SequenceView,
    StateChange,
    StateKey,
    Step,
    Streamed,
    Write,
)
from rolekit.store.sent import SentStore
from rolekit.store.splits import SplitMove, SplitRow
from rolekit.store.timers import TimerRow, Timers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from rolekit.model.envelope import Packet

__all__ = [
    "OUTBOX",
    "REPLAYED",
    "REPLIES",
    "SCHEDULE",
    "Accept",
    "BlobInfo",
    "Commit",
    "DeadLetterRow",
    "Deaths",
    "Due",
    "Executes",
    "Flight",
    "Held",
    "KeyRow",
    "Letters",
    "OpenStep",
    "Opening",
    "Outcome",
    "Outgoing",
    "RawTransaction",
    "Release",
    "Reply",
    "Saved",
    "SequenceView",
    "SomeTaken",
    "SplitMove",
    "SplitRow",
    "StateChange",
    "StateKey",
    "Step",
    "Store",
    "Streamed",
    "Taken",
    "TimerRow",
    "Write",
]


class Executes(Protocol):
    """A connection whose open transaction a message may join, such as asyncpg's."""

    async def execute(self, query: str, /, *args: Any) -> object:  # noqa: ANN401 - as asyncpg has it
        """Run a statement."""
        ...


class RawTransaction(Protocol):
    """A transaction while the user's code uses it."""

    @property
    def driver_connection(self) -> object:
        """The connection of the driver beneath, for libraries that build on it."""
        ...

    async def execute(self, sql: str, args: Sequence[object]) -> int:
        """Run one statement; return the rows touched."""
        ...

    async def fetch(self, sql: str, args: Sequence[object]) -> list[Mapping[str, object]]:
        """Run one query; return its rows by column name, in order."""
        ...


class OpenStep(Protocol):
    """A step whose transaction was opened before its end: `ctx.tx()`."""

    @property
    def transaction(self) -> RawTransaction:
        """What the user's statements run on."""
        ...

    async def finish(self, step: Step) -> Commit:
        """Commit the rest of the step with what the transaction did."""
        ...

    async def abandon(self) -> None:
        """Roll everything back. Safe after `finish`, which it does not undo."""


class Taken(Exception):
    """The inbox row of this step is taken: the message had its outcome."""


class SomeTaken(Exception):
    """Inbox rows of steps that commit only together are taken; nothing was committed.

    Attributes:
        keys: (id, generation) of those.
    """

    def __init__(self, keys: frozenset[tuple[str, int]]) -> None:
        super().__init__(f"{len(keys)} had their outcome.")
        self.keys = keys


class Deaths(Protocol):
    """What is known of instances that died, where a broker does not see who held what."""

    async def suspicions(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Say which of these (id, generation) may have killed the instance that held them.

        Returns:
            For each of those, how many instances died while they ran it alone. Empty when
            no instance died lately: then only connections were lost.
        """
        ...

    async def begin_alone(self, message_id: str, generation: int) -> None:
        """Note that this process runs a message with nothing beside it.

        If the process dies before `end_alone`, the death counts against the message.
        """

    async def end_alone(self, message_id: str, generation: int) -> None:
        """Note that it ended, and this process lives."""


class Store(Buckets, OfSequences, KeyStore, LetterStore, SentStore, Timers, Protocol):
    """Where effects, sequences, replies and dead letters are kept."""

    async def start(self) -> None:
        """Check the server and the schema; open no connection before it is needed."""

    async def stop(self) -> None:
        """Close every connection."""

    # -- steps -------------------------------------------------------------------------

    async def commit(self, steps: Sequence[Step]) -> Commit:
        """Commit these steps in one transaction.

        Raises:
            StateClash: A state or cursor moved on meanwhile; nothing was committed.
            FenceLost: A partition has another owner by now; nothing was committed.
            Unavailable: The server cannot be reached, or did not answer: unknown. The same
                batch again is safe; the inbox tells.
        """
        ...

    async def suspects(self, steps: Sequence[Step]) -> list[Step]:
        """Say for whose statements it may be that `commit` raised an error.

        Nothing is committed by that.

        Returns:
            Some of these steps, in their order; none where it was for something else, or
            that is not known.

        Raises:
            Exception: It could not be found out: what a statement, or the server, raised.
        """
        ...

    async def commit_whole(self, steps: Sequence[Step]) -> Commit:
        """Commit these steps in one transaction, all of them or none.

        Raises:
            SomeTaken: Rows of some are taken; nothing was committed.
            StateClash: As `commit`.
            Unavailable: As `commit`; where the outcome was good, the same again finds all
                rows taken.
        """
        ...

    async def seen(self, keys: Sequence[tuple[str, int, int]]) -> set[tuple[str, int]]:
        """Say which of these (id, generation, birth_ms) have their inbox row."""
        ...

    async def begin(self, message_id: str, generation: int, birth_ms: int) -> OpenStep:
        """Open the transaction of a step, its inbox row first.

        Raises:
            Taken: The row is there already.
        """
        ...

    async def oldest_birth_ms(self) -> int:
        """Return the earliest birth the inbox can tell anything about."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[RawTransaction]:
        """Open a transaction of the user's own; it commits when the block ends well."""
        ...

    # -- what handlers ask for -----------------------------------------------------------

    async def load_states(
        self, keys: Sequence[StateKey]
    ) -> Mapping[StateKey, tuple[int, bytes]]:
        """Read states with their versions; those that are not there are left out.

        The answer may hold others too: many ask in one query.
        """
        ...

    async def recall(self, message_id: str, name: str) -> bytes | None:
        """Read what `ctx.once` kept for a message."""
        ...

    async def remember(self, message_id: str, name: str, value: bytes) -> bytes:
        """Keep a result of `ctx.once`, in a commit of its own; the first one wins."""
        ...

    async def save_blob(self, data: AsyncIterator[bytes], max_bytes: int) -> BlobInfo:
        """Keep bytes once; a blob that is there already costs no space."""
        ...

    async def use_blobs(self, ids: Sequence[str]) -> set[str]:
        """Note that these blobs are used; return which of them are there.

        They stay for two horizons at least. So does what is saved, once more or anew.
        """
        ...

    async def load_blob(self, blob_id: str) -> bytes | None:
        """Read a blob; None when there is none."""
        ...

    # -- the way in and out ---------------------------------------------------------------

    async def accept(
        self,
        packets: Sequence[Packet],
        later: Sequence[Due],
        key: KeyRow | None,
        streamed: Sequence[Streamed] = (),
    ) -> tuple[Commit, KeyRow | None]:
        """Take in what a client sends, in one commit.

        What is streamed gets the next positions, in the order given; the streams are locked
        until the commit, so positions follow commits.

        Returns:
            What was committed and None; or nothing and the earlier request with this key.
        """
        ...

    async def accept_all(
        self, requests: Sequence[Accept]
    ) -> tuple[Commit, list[KeyRow | None]]:
        """Take in what several clients send, in one commit.

        Returns:
            What was committed of all; and for each None, or the earlier request with its
            key, of which nothing is taken. That may be one before it in `requests`.
        """
        ...

    async def accept_via(
        self, via: Executes, packets: Sequence[Packet], later: Sequence[Due]
    ) -> set[str]:
        """Take in what a client sends, in a transaction that is somebody else's.

        Nothing of it is there before that commits, and nobody tells the store that it did.
        Then any relay finds it, whoever sent it may be gone.

        Args:
            via: Whose transaction is open.
            packets: That leave once it commits.
            later: For later.

        Returns:
            What to ring for when it has committed.

        Raises:
            RolekitError: No transaction is open there, or it is on another database, or has
                no rights to the app's tables. The transaction may be spoilt by then.
        """
        ...

    async def backlogs(self, sequences: Sequence[str]) -> dict[str, int]:
        """Say how many positions of these streams were given and not released."""
        ...

    async def find_key(self, key: str) -> KeyRow | None:
        """Look up an idempotency key."""
        ...

    async def replies(self, after: Mapping[str, int], limit: int) -> list[Reply]:
        """Read replies by root, each after its `n`, in order of `n`."""
        ...

    async def last_reply(self, root: str, types: Sequence[str]) -> Reply | None:
        """Read the newest reply of these types, or the failure, of a root."""
        ...

    # -- the relay -------------------------------------------------------------------------

    async def move_due(self, now_ms: int, limit: int) -> Commit:
        """Move what is due from the schedule to the outbox, in one transaction."""
        ...

    async def next_due_ms(self) -> int | None:
        """Say when the next packet is due."""
        ...

    async def adopt(self, limit: int) -> list[Outgoing]:
        """Take over outbox rows of instances that are gone."""
        ...

    def on_doubt(self, tell: Callable[[], None]) -> None:
        """Have this called whenever something comes to be in doubt; at once if it is."""
        ...

    @property
    def is_in_doubt(self) -> bool:
        """Whether something may have been committed, or may be yet, whose answer was lost.

        Only then `unsent` can tell of rows that this process never knew of.
        """
        ...

    async def unsent(self, known: Sequence[int], limit: int) -> list[Outgoing]:
        """List outbox rows of this process that it does not know of.

        Their commit's answer was lost, and its repeat found every inbox row taken.
        """
        ...

    async def forget(self, sent: Sequence[int]) -> None:
        """Delete outbox rows all of whose packets the broker confirmed."""

    async def keep_house(self, now_ms: int) -> None:
        """Make the inbox's days ahead; drop what is over: days, replies, keys, blobs."""
