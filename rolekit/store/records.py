"""What a store is given and gives back: plain data, the same for every store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from rolekit.model.envelope import Packet
from rolekit.model.reassembly import Closing
from rolekit.store.keys import KeyedStep
from rolekit.store.splits import SplitMove

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolekit.model.position import Path
    from rolekit.model.reassembly import Cursor


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
    """A packet for later; its birth is when it is due.

    Attributes:
        packet: What is sent then.
        due_ms: When, milliseconds since 1970.
        why: For an operator who asks what holds something up; may be empty.
    """

    packet: Packet
    due_ms: int
    why: str = ""


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
        is_ordered: Whether parts are released in order; otherwise as they come.
        is_stream: It has no end, and no message was split.
    """

    id: str
    gather: str
    cursor: Cursor
    waits: bool
    token: Packet
    source: Packet
    deadline_ms: int
    age_s: float = 0
    is_ordered: bool = True
    is_stream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """A message that gets the next position of a stream when it is committed.

    Attributes:
        name: Of the stream, as its sender calls it.
        opening: Its sequence, for the first message of it.
        packet: Without its position.
    """

    name: str
    opening: Opening
    packet: Packet


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
        run: Where parts are taken as they come: the number of this run, which is compared
            instead of `before`, since the cursor may stand still.
        taken: The positions this run takes then.
        follows: The token behind it leaves when all is in that this step sends.
    """

    sequence: str
    before: Path
    after: Cursor
    released: int
    emitted: int = 0
    keeps_parts: bool = False
    is_failed: bool = False
    more: bool = False
    run: int | None = None
    taken: tuple[Path, ...] = ()
    follows: bool = False


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
        is_ordered: Whether parts are released in order; otherwise see `Store.heap`.
        is_stream: It has no end, and no message was split.
        runs: How many releases there were.
        taken: Of a heap: positions from the cursor on that were handed over already.
        sealed_paths: Of a heap: what the run that was begun takes; None: none was begun.
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
    is_ordered: bool = True
    is_stream: bool = False
    runs: int = 0
    taken: Mapping[Path, Closing] = field(default_factory=dict["Path", "Closing"])
    sealed_paths: tuple[Path, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer kept for whoever follows `root`.

    Attributes:
        root: Id of the message from outside.
        id: Of the reply: deterministic.
        n: Order among the replies of a root; 0 before it is stored.
        type: Wire name; empty when `is_failure`.
        is_failure: What was sent ended in a dead letter; `body` is its id and reason.
        trace: The `traceparent` of what answered; empty where that is not traced.
    """

    root: str
    id: str
    n: int = 0
    type: str = ""
    type_version: int = 1
    codec: str = "json"
    body: bytes = b""
    is_failure: bool = False
    trace: str = ""


class StateKey(NamedTuple):
    """Whose state: of which handler or sequence, under which name."""

    scope: str
    name: str
    key: str


class StateChange(msgspec.Struct, frozen=True):
    """A state to save if its version is still the one that was read (0: not there).

    Attributes:
        key: Of the state.
        version: That was read.
        body: What it becomes.
        token: The version it gets. Whoever goes on from a body that is not committed yet
            must find exactly that one, so it is drawn at random; 0 is the next number, for
            whoever is alone with the state.
        is_change: The body is another one; otherwise it is only checked.
    """

    key: StateKey
    version: int
    body: bytes
    token: int = 0
    is_change: bool = True

    @property
    def becomes(self) -> int:
        """Version of the state after this change."""
        return self.token or self.version + 1


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
        is_closed: Replayed, dropped, or answered by every handler that was told.
        is_forced: Replayed only by force: it may have been handled already.
        told: Handlers of `DeadLetter[M]` that were told of it and are not done.
        is_answered: Whether one of them is done.
        answers: Of a message that told a handler of another dead letter: the id of that.
        detail: What the database said, with the values that `reason` leaves out; or empty.
        closed_how: "replayed", "dropped", "answered", or "overtaken": what it was to answer
            was replayed. Empty while open.
        is_edited: Whether an operator changed the message.
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
    told: int = 0
    is_answered: bool = False
    answers: str = ""
    detail: str = ""
    closed_how: str = ""
    is_edited: bool = False


class Step(msgspec.Struct, kw_only=True):
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
        answers: The dead letter whose handler this step is; empty for none.
        split: How the split that this step is a chunk of moves on.
        skips_inbox: The inbox has no room for it: too old. The dead letter's id decides.
        keyed: What it means to the key of its message, where that has one.
        trace: Whatever traces its message; None: it is not traced.
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
    answers: str = ""
    split: SplitMove | None = None
    skips_inbox: bool = False
    keyed: KeyedStep | None = None
    trace: object | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Name of the inbox row."""
        return (self.id, self.generation)


class Outgoing(msgspec.Struct, frozen=True):
    """A packet in the outbox: committed, not confirmed by the broker yet.

    Attributes:
        n: Of its row. What a commit sends may be in one row together.
    """

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

OUTBOX = "~outbox"
"""Topic that is woken when there may be something in the outbox that nobody holds."""

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
class Accept:
    """What a client sends, all of it or none.

    Attributes:
        packets: For now.
        later: For later.
        key: Whose first request alone is taken; None: each is.
    """

    packets: Sequence[Packet]
    later: Sequence[Due]
    key: KeyRow | None


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob that was saved: its content address and size."""

    id: str
    size_bytes: int
