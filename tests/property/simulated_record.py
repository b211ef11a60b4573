"""What was committed and sent, commit by commit: what a test compares with what should be."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolekit.model.envelope import KeyedHead, decode_head

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.model.envelope import Packet
    from rolekit.store.base import Commit, Opening, Outcome, Step, Streamed
    from rolekit.store.keys import Fence

Partition = tuple[str, int]
"""Role and number."""


@dataclass
class Record:
    """What was committed.

    Attributes:
        outcomes: Of each generation of each id.
        steps: Every step that took effect, in order.
        at_s: When each of those took effect, by the time of the loop.
        together: The steps of each commit that were to commit all or none.
        seen: Every packet that a queue took, in order.
        twice: Generations that had two outcomes.
        early: Generations that were sent before the one before them was recorded.
        of_key: Every packet that the queue of a partition took, by key, in order.
        keyed: The generations of keyed messages that had an outcome.
        last_keyed: Of each such message, the last outcome.
        epochs: The newest epoch of each partition that was ever given to an owner.
        fenced: What took effect for a partition whose newest epoch was another.
        streamed: Of each stream, how it was opened and what was given a place, in order.
    """

    outcomes: dict[tuple[str, int], Outcome] = field(
        default_factory=dict[tuple[str, int], "Outcome"]
    )
    steps: list[Step] = field(default_factory=list["Step"])
    at_s: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])
    together: list[list[Step]] = field(default_factory=list[list["Step"]])
    seen: list[Packet] = field(default_factory=list["Packet"])
    twice: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    early: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    of_key: dict[str, list[Packet]] = field(default_factory=dict[str, list["Packet"]])
    keyed: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    last_keyed: dict[str, Outcome] = field(default_factory=dict[str, "Outcome"])
    epochs: dict[Partition, int] = field(default_factory=dict[Partition, int])
    fenced: list[Fence] = field(default_factory=list["Fence"])
    streamed: dict[str, tuple[Opening, list[Packet]]] = field(
        default_factory=dict[str, tuple["Opening", list["Packet"]]]
    )

    def commit(self, steps: Sequence[Step], commit: Commit) -> list[Step]:
        """Note the steps that took effect: of copies in one batch, the first."""
        left = set(commit.fresh)
        fresh: list[Step] = []
        for step in steps:
            if step.key in left:
                left.discard(step.key)
                if step.key in self.outcomes:
                    self.twice.append(step.key)
                self.outcomes[step.key] = step.outcome
                self.at_s[step.key] = asyncio.get_running_loop().time()
                fresh.append(step)
                if step.keyed is not None:
                    self.keyed.add(step.key)
                    self.last_keyed[step.id] = step.outcome
        self.steps += fresh
        self.owned(step.keyed.fence for step in fresh if step.keyed is not None)
        return fresh

    def take(self, fences: Iterable[Fence]) -> None:
        """Note that partitions have new owners."""
        for fence in fences:
            self.epochs[fence.role, fence.partition] = fence.epoch

    def owned(self, fences: Iterable[Fence]) -> None:
        """Note for which partitions something took effect."""
        for fence in fences:
            if self.epochs[fence.role, fence.partition] != fence.epoch:
                self.fenced.append(fence)

    def sent(self, packet: Packet) -> None:
        """Note a packet that a queue took."""
        self.seen.append(packet)
        head = decode_head(packet.head)
        if isinstance(head, KeyedHead):
            self.of_key.setdefault(head.key, []).append(packet)
        before = (packet.id, packet.generation - 1)
        if packet.generation and before not in self.outcomes:
            self.early.append((packet.id, packet.generation))

    def stream(self, streamed: Sequence[Streamed]) -> None:
        """Note what was given the next places of streams."""
        for one in streamed:
            given = self.streamed.setdefault(one.opening.id, (one.opening, []))
            given[1].append(one.packet)
