"""Dead letters as operators ask for them, the same for every store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from rolekit.errors import CodecError
from rolekit.model.envelope import Attempts, Head, Packet, decode_head, encode_head
from rolekit.model.reassembly import ClosedBy, Closing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.store.records import Commit, DeadLetterRow

ANSWERED = "answered"
"""How a letter was closed that every handler of `DeadLetter[M]` was told of, and is done."""
REPLAYED = "replayed"
"""How a letter was closed whose message goes again: a handler that was told is too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """Which dead letters are meant: those that fit all of it. Nothing said: all open ones.

    Attributes:
        handler: Name, whole; empty for any.
        type: Wire name, whole.
        reason: Text that the reason has somewhere, whatever the case of its letters.
        since_ms: Parked then or later.
        until_ms: Parked before.
        prefixes: The id begins with one of these; none for any.
        answered: Also those that handlers were told of, done or not.
        closed: Also those that are closed, however that came.
    """

    handler: str = ""
    type: str = ""
    reason: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    prefixes: tuple[str, ...] = ()
    answered: bool = False
    closed: bool = False

    def fits(self, row: DeadLetterRow) -> bool:
        """Say whether a dead letter is meant."""
        return (
            self._in_state(row)
            and self.handler in ("", row.handler)
            and self.type in ("", row.type)
            and self.reason.lower() in row.reason.lower()
            and (self.since_ms is None or row.at_ms >= self.since_ms)
            and (self.until_ms is None or row.at_ms < self.until_ms)
            and (not self.prefixes or row.id.startswith(self.prefixes))
        )

    def _in_state(self, row: DeadLetterRow) -> bool:
        if row.is_closed:
            return self.closed or (self.answered and row.closed_how == ANSWERED)
        return self.closed or self.answered or not row.told


OPEN = Letters()
"""All that are open."""


def next_generation(packet: Packet) -> Packet:
    """Return the packet of a replay: born now, with its attempts forgotten.

    A head that cannot be read goes as it is, and says so again where it arrives.
    """
    head = readable(packet.head)
    data = packet.head
    if head is not None:
        data = encode_head(msgspec.structs.replace(head, attempts=Attempts()))
    return msgspec.structs.replace(
        packet, generation=packet.generation + 1, birth_ms=None, head=data
    )


def readable(data: bytes) -> Head | None:
    """Read a head; None where it is none."""
    try:
        return decode_head(data)
    except CodecError:
        return None


def dropped(head: Head) -> list[Closing]:
    """Return what closes the position of a message that is given up for good."""
    if not head.frames:
        return []
    frame = head.frames[-1]
    return [Closing(sequence=frame.sequence, path=frame.path, by=ClosedBy.DROPPED)]


class LetterStore(Protocol):
    """Where dead letters are kept."""

    async def dead_letters(self, which: Letters, *, limit: int) -> list[DeadLetterRow]:
        """List the dead letters that are meant, newest first."""
        ...

    async def replay(
        self, ids: Sequence[str], *, force: bool, answered: bool = False
    ) -> Commit:
        """Close these dead letters and send their messages as the next generation.

        Args:
            ids: Of dead letters; those that are closed are left out.
            force: Also those that may have been handled already.
            answered: Also those that handlers were told of.
        """
        ...

    async def edit(self, id_: str, head: bytes, body: bytes) -> bool:
        """Change the message of a dead letter that is not closed; say whether it was there."""
        ...

    async def drop(self, ids: Sequence[str]) -> int:
        """Close these dead letters for good; return how many were not closed.

        What waits for them goes on without: a position closes as dropped, a sequence whose
        release was given up ends as failed, and what they were to answer is open again.
        """
        ...

    async def count_dead(self) -> dict[str, int]:
        """Count open dead letters by handler."""
        ...
