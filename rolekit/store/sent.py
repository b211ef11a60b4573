"""What was sent and confirmed, kept for a while so that a broker that lost it gets it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.envelope import Packet


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBetween:
    """Which of what was sent is meant.

    Attributes:
        since_ms: Confirmed by the broker then or later, milliseconds since 1970.
        until_ms: Confirmed before.
        queue: Only what went there; empty for all queues but those of replies.
    """

    since_ms: int
    until_ms: int
    queue: str = ""

    def has(self, packet: Packet) -> bool:
        """Say whether a packet that was sent in this time is meant."""
        if self.queue:
            return packet.queue == self.queue
        return not packet.queue.startswith("~")


@dataclass(frozen=True, slots=True)
class SentRow:
    """What left with one commit, or a part of it.

    Attributes:
        n: Of the row, in the order of confirms.
        at_ms: When it was confirmed.
        packets: Of it.
    """

    n: int
    at_ms: int
    packets: Sequence[Packet]


class SentStore(Protocol):
    """Where what was sent is kept, if that is asked for."""

    keeps_sent: bool

    async def sent(self, which: SentBetween, *, after: int, limit: int) -> list[SentRow]:
        """Read rows of what was sent, in order, behind the row numbered `after`."""
        ...
