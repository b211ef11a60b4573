"""How far splits have come that take more than one commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rolekit.model.envelope import Packet


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRow:
    """A split that goes on.

    Attributes:
        id: Of the message.
        origin: The generation that began it: it names the sequence and the parts.
        sequence: That it opened; empty: it splits a position of another.
        next: Parts that were committed.
        places: Positions they take.
        digest: Of them.
    """

    id: str
    origin: int
    sequence: str
    next: int
    places: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitMove:
    """Moving a split on: a compare-and-set from one number of parts to another.

    A step with such a move that takes no inbox row is refused where the message has one.

    Attributes:
        id: Of the message.
        origin: As in `SplitRow`.
        generation: That runs it now; an older one cannot move it any more.
        sequence: As in `SplitRow`.
        source: The message as it is now, where another generation began: what is kept of it
            with its sequence must name the one that can be replayed.
        before: Parts committed before; another number there now: the step is refused. 0: none
            was, and there is no row.
        after: Parts committed with this step.
        places: Positions they take, with those before.
        digest: Of all of them.
        is_last: The split is over, and its row goes.
        is_failed: So is its sequence.
    """

    id: str
    origin: int
    generation: int
    sequence: str
    before: int
    after: int
    places: int
    digest: bytes
    source: Packet | None = None
    is_last: bool = False
    is_failed: bool = False
