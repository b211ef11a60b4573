"""Dead letters in memory: listed, replayed, changed, dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace as with_fields
from typing import TYPE_CHECKING

import msgspec

from rolekit.store.base import Taken
from rolekit.store.keys import freeing
from rolekit.store.letters import (
    ANSWERED,
    OPEN,
    REPLAYED,
    Letters,
    dropped,
    next_generation,
    readable,
)
from rolekit.store.memory_sending import MemorySending
from rolekit.store.memory_sequences import FAILED
from rolekit.store.memory_sequences import OPEN as GOES_ON
from rolekit.store.records import Commit, DeadLetterRow, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class MemoryLetters(MemorySending):
    """The part of the store in memory that operators ask."""

    async def dead_letters(
        self, which: Letters = OPEN, *, limit: int = 100
    ) -> list[DeadLetterRow]:
        """List the dead letters that are meant, newest first."""
        found = [row for row in self.tables.dead.values() if which.fits(row)]
        return sorted(found, key=lambda row: (-row.at_ms, row.id))[:limit]

    async def replay(
        self, ids: Sequence[str], *, force: bool, answered: bool = False
    ) -> Commit:
        """Close these dead letters and send their messages as the next generation."""
        meant = Letters(answered=answered)
        rows = [row for row in self._named(ids) if meant.fits(row)]
        closed = [row for row in rows if force or not row.is_forced]
        self._close(closed, REPLAYED)
        again = {row.id for row in closed}
        answers = [r for r in self.tables.dead.values() if r.answers in again]
        self._close([row for row in answers if not row.is_closed], "overtaken")
        commit = Commit(fresh={(row.packet.id, row.packet.generation) for row in closed})
        self._send([next_generation(row.packet) for row in closed], commit)
        return commit

    async def edit(self, id_: str, head: bytes, body: bytes) -> bool:
        """Change the message of a dead letter that is not closed; say whether it was there."""
        row = self.tables.dead.get(id_)
        if row is None or row.is_closed:
            return False
        packet = msgspec.structs.replace(row.packet, head=head, body=body)
        self.tables.dead[id_] = with_fields(row, packet=packet, is_edited=True)
        return True

    async def drop(self, ids: Sequence[str]) -> int:
        """Close these dead letters for good; return how many were not closed.

        What waits for them goes on without: a position closes as dropped, a sequence whose
        release was given up ends as failed, a stream goes on behind that run, a key that is
        held goes on, and what they were to answer is open again.
        """
        closed = [row for row in self._named(ids) if not row.is_closed]
        self._close(closed, "dropped")
        sequences, commit = self.tables.sequences, Commit()
        heads = [head for row in closed if (head := readable(row.packet.head)) is not None]
        for head in (head for head in heads if head.is_release):
            ended = sequences.rows.get(head.sequence)
            if ended is not None and ended.state == GOES_ON:
                if ended.opening.is_stream:
                    self._send([ended.skip(self.tables.clock.now_ms())], commit)
                else:
                    ended.state = FAILED
        closings = [closing for head in heads for closing in dropped(head)]
        step = Step(id="", generation=0, birth_ms=0, closings=closings)
        now, later = sequences.run([step], self.tables.clock.now_ms())
        self._send([*now, *freeing(row.packet for row in closed)], commit)
        self._plan(later, commit)
        self._answer((row.answers for row in closed if row.answers), done=False)
        return len(closed)

    async def count_dead(self) -> dict[str, int]:
        """Count open dead letters by handler."""
        which = Letters()
        return dict(Counter(r.handler for r in self.tables.dead.values() if which.fits(r)))

    def _refuse_late_answers(self, steps: Iterable[Step]) -> None:
        """Refuse the step of a handler that was told of a letter which was replayed since."""
        for step in steps:
            row = self.tables.dead.get(step.answers)
            if row is not None and row.closed_how == REPLAYED:
                raise Taken(*step.key)

    def _park(self, dead: DeadLetterRow) -> None:
        at_ms = self.tables.clock.now_ms()
        self.tables.dead.setdefault(dead.id, with_fields(dead, at_ms=at_ms))

    def _answer(self, ids: Iterable[str], *, done: bool) -> None:
        """Note that handlers are done with dead letters, or will never be."""
        for id_ in ids:
            row = self.tables.dead.get(id_)
            if row is None or row.is_closed:
                continue
            told, is_answered = max(row.told - 1, 0), row.is_answered or done
            row = with_fields(row, told=told, is_answered=is_answered)
            self.tables.dead[id_] = row
            if not told and is_answered:
                self._close([row], ANSWERED)

    def _named(self, ids: Sequence[str]) -> list[DeadLetterRow]:
        dead = self.tables.dead
        return [dead[id_] for id_ in dict.fromkeys(ids) if id_ in dead]

    def _close(self, rows: Iterable[DeadLetterRow], how: str) -> None:
        for row in rows:
            self.tables.dead[row.id] = with_fields(row, is_closed=True, closed_how=how)
