"""What every store promises: the state that messages leave behind, committed whole.

A `Step` is everything one delivery wants to change. `commit` takes many steps in one
transaction: for each, its inbox row decides. Row taken: the message had its outcome, and
nothing else of the step happens. Row free: all of it happens.

Two stores keep this contract: Postgres, and memory for tests. One conformance suite,
`tests/conformance/store.py`, runs on both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from rolekit.model.envelope import CodecName, Packet
    from rolekit.model.position import Path
    from rolekit.model.reassembly import Closing, Cursor

R = TypeVar("R")


class Outcome(IntEnum):
    """What one generation of a message came to."""

    DONE = 1
    RETRY = 2
    DEAD = 3


@dataclass(frozen=True, slots=True)
class Write:
    """One buffered statement of a handler; `expect` is how many rows it must touch."""

    sql: str
    args: tuple[object, ...]
    expect: int | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A packet for later; its birth is when it is due."""

    packet: Packet
    due_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A sequence, as the first commit of its split makes it.

    Attributes:
        id: Of the sequence.
        gather: Name of the gather that receives it.
        cursor: Before the first part.
        waits: Whether a failure holds it up.
        token: The packet that tells the gather there is something to release. Its id is
            replaced by one of (sequence, position), its birth by the commit's time.
        source: The message that was split, as it was; `list` gathers and dead letters use it.
        deadline_ms: When it is over, milliseconds since 1970.
        age_s: How long a run may wait for more parts, seconds.
    """

    id: str
    gather: str
    cursor: Cursor
    waits: bool
    token: Packet
    source: Packet
    deadline_ms: int
    age_s: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Moving a sequence on: a compare-and-set from one cursor to another.

    Attributes:
        sequence: Its id.
        before: Path of the cursor the run began at; another one there now: the step is lost.
        after: The cursor behind the run.
        released: Parts handed over with this run.
        emitted: Positions of its own that the gather has filled, this run included.
        keeps_parts: Whether parts before the cursor are still needed (`list` gathers).
        is_failed: The sequence ends here, failed.
        more: The run ended at its limit, not at a hole: there is something to release now.
    """

    sequence: str
    before: Path
    after: Cursor
    released: int
    emitted: int = 0
    keeps_parts: bool = False
    is_failed: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceView:
    """A sequence and its next closings, as a release reads them.

    Attributes:
        gather: Name.
        cursor: Where it stands.
        released: Parts handed over so far.
        emitted: Positions that the gather's outputs have filled so far.
        sealed: Where the run that was begun ends; None: none was.
        is_open: Neither finished nor failed.
        is_expired: Its deadline has passed.
        source: The message that was split.
        closings: From the cursor on, in order, and the open splits above it.
        horizon: The last path read, where there are more; None: all were read.
    """

    gather: str
    cursor: Cursor
    released: int
    emitted: int
    sealed: Path | None
    is_open: bool
    is_expired: bool
    source: Packet
    closings: Mapping[Path, Closing]
    horizon: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer kept for whoever follows `root`.

    Attributes:
        root: Id of the message from outside.
        id: Of the reply: deterministic.
        n: Order among the replies of a root; 0 before it is stored.
        type: Wire name; empty when `is_failure`.
        is_failure: What was sent ended in a dead letter; `body` is its id and reason.
    """

    root: str
    id: str
    n: int = 0
    type: str = ""
    type_version: int = 1
    codec: CodecName = "json"
    body: bytes = b""
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class StateKey:
    """Whose state: of which handler or sequence, under which name."""

    scope: str
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class StateChange:
    """A state to save if its version is still the one that was read (0: not there)."""

    key: StateKey
    version: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterRow:
    """A message that will not be handled, unless somebody replays it.

    Attributes:
        id: Of the dead letter: that of the message, with its generation.
        packet: The message as it came, for replay.
        handler: Name.
        type: Wire name, as far as it could be read.
        reason: One sentence.
        traceback: Of the last attempt, or empty.
        attempts: How often it was tried.
        at_ms: When, milliseconds since 1970; 0 before it is stored.
        is_closed: Replayed or dropped.
        is_forced: Replayed only by force: it may have been handled already.
    """

    id: str
    packet: Packet
    handler: str
    type: str
    reason: str
    traceback: str = ""
    attempts: int = 1
    at_ms: int = 0
    is_closed: bool = False
    is_forced: bool = False


@dataclass(slots=True, kw_only=True)
class Step:
    """Everything one delivery wants to commit.

    Attributes:
        id: Of the message; with `generation` it names the inbox row.
        generation: Of the message.
        birth_ms: Says which day's part of the inbox holds the row.
        outcome: What the row will say.
        claim: Tag to delete in the same transaction, where the transport joins the store.
        writes: In the handler's order.
        outputs: Packets that leave after the commit.
        later: Packets for later.
        opening: The sequence this split makes.
        closings: Positions this step closes.
        release: The sequence this step moves on.
        replies: For whoever follows.
        states: To save.
        dead: The dead letter this step parks.
        skips_inbox: The inbox has no room for it: too old. The dead letter's id decides.
    """

    id: str
    generation: int
    birth_ms: int
    outcome: Outcome = Outcome.DONE
    claim: int | None = None
    writes: Sequence[Write] = ()
    outputs: Sequence[Packet] = ()
    later: Sequence[Due] = ()
    opening: Opening | None = None
    closings: Sequence[Closing] = ()
    release: Release | None = None
    replies: Sequence[Reply] = ()
    states: Sequence[StateChange] = ()
    dead: DeadLetterRow | None = None
    skips_inbox: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """Name of the inbox row."""
        return (self.id, self.generation)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A packet in the outbox: committed, not confirmed by the broker yet."""

    n: int
    packet: Packet


@dataclass(slots=True)
class Commit:
    """What a commit came to.

    Attributes:
        fresh: Inbox rows that were free; the other steps had their outcome before.
        leaving: Outbox rows to publish, then `forget`. Empty where the transport joins.
        topics: Queues that got something, to wake their consumers; `REPLIES` for replies,
            `SCHEDULE` for what is due later.
        moved: Packets that a relay moved.
    """

    fresh: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    leaving: list[Outgoing] = field(default_factory=list[Outgoing])
    topics: set[str] = field(default_factory=set[str])
    moved: int = 0


SCHEDULE = "~schedule"
"""Topic that is woken when something was planned for later."""

REPLIES = "~replies"
"""Topic that is woken when replies were stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What a request with an idempotency key was answered."""

    status: int
    media_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """An idempotency key: the hash of its first request, and the answer to it."""

    key: str
    body_hash: str
    reply: Saved | None = None


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob that was saved: its content address and size."""

    id: str
    size_bytes: int


class RawTransaction(Protocol):
    """A transaction while the user's code uses it."""

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


class Store(Protocol):
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
            Unavailable: The server cannot be reached, or did not answer: unknown. The same
                batch again is safe; the inbox tells.
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

    # -- sequences ---------------------------------------------------------------------

    async def view(self, sequence: str, limit: int, *, whole: bool) -> SequenceView | None:
        """Read a sequence and its next `limit` closings; from the first one if `whole`."""
        ...

    async def seal(
        self, sequence: str, before: Path, end: Path, closings: Sequence[Closing]
    ) -> Path:
        """Fix where the run that begins at `before` ends, for this and every later attempt.

        Args:
            sequence: Its id.
            before: Where the cursor stands.
            end: Where the run would end; an end that was fixed earlier wins.
            closings: Failures to store with it, for parts that ran out of time; a part that
                came meanwhile wins.

        Returns:
            Where the run ends.
        """
        ...

    async def expire(self, now_ms: int, limit: int) -> Commit:
        """Note which sequences' time is up, and let their gathers release what there is.

        A sequence that waits for its holes has no such end.
        """
        ...

    # -- what handlers ask for -----------------------------------------------------------

    async def load_states(self, keys: Sequence[StateKey]) -> dict[StateKey, tuple[int, bytes]]:
        """Read states with their versions; those that are not there are left out."""
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

    async def has_blob(self, blob_id: str) -> bool:
        """Say whether a blob is there."""
        ...

    async def load_blob(self, blob_id: str) -> bytes | None:
        """Read a blob; None when there is none."""
        ...

    # -- the way in and out ---------------------------------------------------------------

    async def accept(
        self, packets: Sequence[Packet], later: Sequence[Due], key: KeyRow | None
    ) -> tuple[Commit, KeyRow | None]:
        """Take in what a client sends, in one commit.

        Returns:
            What was committed and None; or nothing and the earlier request with this key.
        """
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

    async def unsent(self, known: Sequence[int], limit: int) -> list[Outgoing]:
        """List outbox rows of this process that it does not know of.

        Their commit's answer was lost, and its repeat found every inbox row taken.
        """
        ...

    async def forget(self, sent: Sequence[int]) -> None:
        """Delete outbox rows that the broker confirmed."""

    async def keep_house(self, now_ms: int) -> None:
        """Make the inbox's days ahead; drop replies and keys that are over."""

    # -- dead letters ------------------------------------------------------------------------

    async def dead_letters(
        self, *, handler: str | None, ids: Sequence[str] | None, limit: int
    ) -> list[DeadLetterRow]:
        """List open dead letters, newest first; closed ones too when asked by id."""
        ...

    async def replay(self, ids: Sequence[str], *, force: bool) -> Commit:
        """Close these dead letters and send their messages as the next generation."""
        ...

    async def drop(self, ids: Sequence[str]) -> int:
        """Close these dead letters for good; return how many were open."""
        ...

    async def count_dead(self) -> dict[str, int]:
        """Count open dead letters by handler."""
        ...
