"""What holds up sequences that are not over, said so that an operator knows what to do.

A position is held up by whatever message stands there, on its way to a handler, waiting for
its next attempt, or dead; by a sequence within that is not over; or by the gather itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolekit.model.position import stream_number
from rolekit.model.reassembly import ClosedBy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.envelope import Head
    from rolekit.model.position import Path
    from rolekit.store.base import Flight, Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A sequence in flight, and why it does not go on.

    Attributes:
        sequence: Id.
        of: Type of the message that was split, or the name of a stream.
        source_id: Id of that message; empty for a stream.
        gather: Name of the handler that receives it.
        blocked_at: The position it waits for, as 3 or 3.1; empty when all were released.
        total: How many positions the outermost split has; None: not known yet.
        released: Parts handed over.
        since_s: How long it has stood there, seconds.
        why: A sentence.
        where: Where the message is that stands there; empty: not found.
        handler: Which that message is for; empty: not found.
        due_in_s: When it is due, seconds from now; None: nothing is planned.
        dead_letter: Id of the dead letter that holds it up, or empty.
        deadline_in_s: When what is missing counts as dead; None: never.
        late: Parts that came too late.
        repeated: Parts that came twice.
        conflicting: Of those, the ones that said something else.
    """

    sequence: str
    of: str
    source_id: str
    gather: str
    blocked_at: str
    total: int | None
    released: int
    since_s: float
    why: str
    where: str = ""
    handler: str = ""
    due_in_s: float | None = None
    dead_letter: str = ""
    deadline_in_s: float | None = None
    late: int = 0
    repeated: int = 0
    conflicting: int = 0


def explain(flights: Sequence[Flight], held: Sequence[Held], now_ms: int) -> list[Line]:
    """Say of each sequence which position it waits for, and who holds that."""
    return [_line(flight, _Reason(flight, flights, held, now_ms), now_ms) for flight in flights]


def _line(flight: Flight, reason: _Reason, now_ms: int) -> Line:
    found = reason.found
    has_end = not flight.stream and not flight.waits
    path, total = flight.cursor.next, (flight.cursor.totals or (None,))[0]
    if flight.stream and path:
        path = (stream_number(path), *path[2:])
    return Line(
        sequence=flight.id,
        of=flight.stream or flight.source.type,
        source_id="" if flight.stream else flight.source_id,
        gather=flight.gather,
        blocked_at=_text(path),
        total=total,
        released=flight.released,
        since_s=max(now_ms - flight.moved_ms, 0) / 1000,
        why=reason.why(),
        where="" if found is None else found.where,
        handler="" if found is None else found.queue,
        due_in_s=None if found is None else _due_in_s(found, now_ms),
        dead_letter="" if found is None else found.dead_letter,
        deadline_in_s=(flight.deadline_ms - now_ms) / 1000 if has_end else None,
        late=flight.late,
        repeated=flight.repeated,
        conflicting=flight.conflicting,
    )


class _Reason:
    """Why one sequence does not go on."""

    def __init__(
        self, flight: Flight, flights: Sequence[Flight], held: Sequence[Held], now_ms: int
    ) -> None:
        self._flight = flight
        self._flights = flights
        self._now_ms = now_ms
        self.found = self._told(held) or self._standing(held)

    def _told(self, held: Sequence[Held]) -> Held | None:
        """Find the token that is to move it on."""
        return next((one for one in held if one.head.sequence == self._flight.id), None)

    def _standing(self, held: Sequence[Held]) -> Held | None:
        """Find the message that stands where it waits, or is going to be split there."""
        at = self._flight.cursor.next
        standing = [one for one in held if _stands(one.head, self._flight.id, at)]
        found = max(standing, key=lambda one: _depth(one.head, self._flight.id), default=None)
        return found or self._splitting(held)

    def _splitting(self, held: Sequence[Held]) -> Held | None:
        """Find the message whose split goes on, where that has not come so far."""
        flight = self._flight
        if flight.next is not None or not flight.cursor.totals or flight.cursor.totals[-1]:
            return None
        return next((one for one in held if one.id == flight.source_id), None)

    def why(self) -> str:
        """Say it in a sentence."""
        flight, found = self._flight, self.found
        if found is not None:
            return self._of(found)
        if flight.is_ready:
            return f"there; {flight.gather} is about to take it"
        return self._closed() or self._open()

    def _closed(self) -> str:
        """Say what closed the position, if anything did."""
        flight, there = self._flight, self._flight.next
        if there is None or there.by is ClosedBy.SPLIT:
            return ""
        if there.by is ClosedBy.FAILED:
            return f"dead letter {there.dead_letter or '?'}: {there.detail}"
        return f"there; {flight.gather} will be told"

    def _open(self) -> str:
        """Say who may close the position, where nobody was found."""
        flight = self._flight
        within = self._within()
        if within is not None:
            return f"waits for sequence {within.id} of {within.gather}, which is within"
        if flight.stream and stream_number(flight.cursor.next) == flight.tail:
            return "everything that was sent has been taken"
        return "not there yet: in a queue of the broker, or in hand"

    def _of(self, found: Held) -> str:
        who = found.queue
        if found.where == "dead letter":
            return f"dead letter {found.dead_letter}: {found.why}"
        if found.where == "schedule":
            what, bracket, error = found.why.partition(" (")
            after = f" ({error}" if bracket else ""
            due_s = _due_in_s(found, self._now_ms)
            return f"{who} {what or 'due'}, next in {due_s:.0f} s{after}"
        tried = found.head.attempts.failures + found.head.attempts.crashes
        attempt = f", attempt {tried + 1}" if tried else ""
        if found.where == "hand":
            return f"{who} has it in hand{attempt}"
        if found.where == "behind":
            return f"waits behind another message of its key for {who}{attempt}"
        if found.where == "outbox":
            return f"on its way to {who}{attempt}"
        return f"waits in the queue of {who}{attempt}"

    def _within(self) -> Flight | None:
        """Find the sequence whose result will stand where this one waits."""
        at, own = self._flight.cursor.next, self._flight.id
        return next((one for one in self._flights if _stands(one.token, own, at)), None)


def _stands(head: Head, sequence: str, at: Path) -> bool:
    """Whether a message stands at a position, or above it, where it may still be split."""
    paths = [frame.path for frame in head.frames if frame.sequence == sequence]
    return any(at[: len(path)] == path for path in paths)


def _depth(head: Head, sequence: str) -> int:
    return max(len(frame.path) for frame in head.frames if frame.sequence == sequence)


def _due_in_s(found: Held, now_ms: int) -> float | None:
    return max(found.due_ms - now_ms, 0) / 1000 if found.where == "schedule" else None


def _text(path: Path) -> str:
    return ".".join(str(index) for index in path)
