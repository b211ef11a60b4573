"""What a store tells an operator of sequences that are not over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rolekit.model.envelope import Head
    from rolekit.model.reassembly import Closing, Cursor

Where = Literal["schedule", "queue", "hand", "behind", "outbox", "dead letter"]
"""Where a packet is: due later, waiting, with an instance, behind another message of its key,
committed and not sent, parked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """An open sequence.

    Attributes:
        id: Of the sequence.
        gather: Name.
        token: Head of the packets that tell its gather; says which sequences it is within.
        source: Head of the message that was split.
        source_id: Of that message.
        cursor: Where it stands.
        moved_ms: When it got there, milliseconds since 1970.
        released: Parts handed over.
        is_ready: A token is on its way to its gather.
        is_expired: Its deadline has passed.
        waits: Whether a dead letter holds it up.
        deadline_ms: When what is missing counts as dead, unless it waits.
        next: What is at the position it stands at, without its body; None: nothing is.
        stream: Name of the stream, or empty.
        tail: Of a stream: the position that the next message gets.
        late: Parts that came when their position had been released.
        repeated: Parts that came to a position that was closed.
        conflicting: Of the repeated ones: those that said something else.
    """

    id: str
    gather: str
    token: Head
    source: Head
    source_id: str
    cursor: Cursor
    moved_ms: int
    released: int
    is_ready: bool
    is_expired: bool
    waits: bool
    deadline_ms: int
    next: Closing | None = None
    stream: str = ""
    tail: int = 0
    late: int = 0
    repeated: int = 0
    conflicting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A packet that stands in a sequence, or is to move it on.

    Attributes:
        where: It is there.
        queue: Handler it is for.
        head: Of it.
        id: Of the message.
        generation: Of the message.
        due_ms: When it is due, where it is due later.
        why: What is known of the last attempt; of a dead letter, its reason.
        dead_letter: Id, where it is one.
    """

    where: Where
    queue: str
    head: Head
    id: str
    generation: int
    due_ms: int = 0
    why: str = ""
    dead_letter: str = ""
