"""What a database would hold, for the store in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolekit.clock import Clock, SystemClock
from rolekit.errors import RolekitError
from rolekit.store.base import DeadLetterRow, Due, KeyRow, Reply, StateKey, TimerRow, Write
from rolekit.store.memory_keys import KeyTables
from rolekit.store.memory_sequences import Sequences
from rolekit.store.sent import SentRow

if TYPE_CHECKING:
    from rolekit.model.envelope import Packet
    from rolekit.model.rates import Bucket
    from rolekit.store.splits import SplitRow

DAY_MS = 86_400_000
DAYS_BACK = 7
ORPHAN = 0


@dataclass(slots=True)
class LeavingRow:
    """A row of the outbox."""

    packets: list[Packet]
    owner: int


@dataclass(slots=True)
class MemoryTables:
    """What is kept.

    Attributes:
        clock: Says what is due, and when something was born.
        writes: Every statement of `ctx.write`, in the order of their commits; none is run.
        refused: Each `ctx.tx` and each transaction that was asked for, refused.
        results_s: How long replies and keys are kept.
        horizon_s: How long after its birth a message may still take effect.
        blobs_used: When each blob was used last.
        blobs_swept: Day on which blobs to drop were looked for last.
    """

    clock: Clock = field(default_factory=SystemClock)
    writes: list[Write] = field(default_factory=list[Write])
    refused: list[RolekitError] = field(default_factory=list[RolekitError])
    results_s: float = 86_400
    horizon_s: float = 7 * 86_400
    oldest_day: int = 0
    number: int = 0
    inbox: set[tuple[str, int, int]] = field(default_factory=set[tuple[str, int, int]])
    sequences: Sequences = field(default_factory=Sequences)
    of_keys: KeyTables = field(default_factory=KeyTables)
    states: dict[StateKey, tuple[int, bytes]] = field(
        default_factory=dict[StateKey, tuple[int, bytes]]
    )
    outbox: dict[int, LeavingRow] = field(default_factory=dict[int, LeavingRow])
    schedule: dict[int, Due] = field(default_factory=dict[int, Due])
    replies: list[tuple[int, Reply]] = field(default_factory=list[tuple[int, Reply]])
    keys: dict[str, tuple[int, KeyRow]] = field(default_factory=dict[str, tuple[int, KeyRow]])
    once: dict[tuple[str, str], bytes] = field(default_factory=dict[tuple[str, str], bytes])
    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    blobs_used: dict[str, int] = field(default_factory=dict[str, int])
    blobs_swept: int = 0
    splits: dict[str, tuple[int, SplitRow]] = field(
        default_factory=dict[str, "tuple[int, SplitRow]"]
    )
    sent: list[SentRow] = field(default_factory=list[SentRow])
    dead: dict[str, DeadLetterRow] = field(default_factory=dict[str, DeadLetterRow])
    timers: dict[str, TimerRow] = field(default_factory=dict[str, TimerRow])
    buckets: dict[str, Bucket] = field(default_factory=dict[str, "Bucket"])

    def __post_init__(self) -> None:
        self.oldest_day = self.clock.now_ms() // DAY_MS - DAYS_BACK

    def next_number(self) -> int:
        """Number one more row."""
        self.number += 1
        return self.number
