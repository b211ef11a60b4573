"""What one commit does to sequences: close positions, then, under each row's lock, move on.

The closing is stored before the lock is asked for, in a statement of its own; whoever holds
the lock reads positions in a later statement. So of a storer and a releaser that meet, the
second one to get the lock sees what the first did, and the sequence is marked ready.

Source: DESIGN 4, "Storing" and "Releasing".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolekit.errors import StateClash
from rolekit.model.envelope import Packet
from rolekit.model.position import Path, pack, unpack
from rolekit.model.reassembly import ClosedBy, Closing, Cursor, is_awaited, replaces
from rolekit.store.base import Due, Opening, Release, Step
from rolekit.store.postgres import rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.database import Pooled
    from rolekit.store.postgres.rows import Row


@dataclass(slots=True)
class Tokens:
    """Packets that tell gathers there is something to release."""

    now: list[Packet] = field(default_factory=list[Packet])
    later: list[Due] = field(default_factory=list[Due])


@dataclass(frozen=True, slots=True)
class Ready:
    """A sequence that has something to release; its run may wait `age_ms` for more."""

    sequence: str
    gather: str
    head: bytes
    age_ms: int = 0


class SequenceWork:
    """The part of one commit that is about sequences."""

    def __init__(self, connection: Pooled, sql: Mapping[str, str], now_ms: int) -> None:
        self._connection = connection
        self._sql = sql
        self._now_ms = now_ms
        self.tokens = Tokens()

    async def run(self, steps: Sequence[Step]) -> Tokens:
        """Open, close and release, in this order; return the tokens that must leave.

        Raises:
            StateClash: A cursor is not where its release began; somebody was faster.
        """
        for step in steps:
            if step.opening is not None:
                await self._open(step.opening)
        closings = _first_of_each([c for step in steps for c in step.closings])
        releases = {s.release.sequence: s.release for s in steps if s.release is not None}
        if closings:
            await self._connection.execute(
                self._sql["insert_parts"], *rows.closing_columns(closings)
            )
        touched = sorted({c.sequence for c in closings} | set(releases))
        if touched:
            await self._move(touched, closings, releases)
        return self.tokens

    async def _open(self, opening: Opening) -> None:
        source, token = opening.source, opening.token
        await self._connection.execute(
            self._sql["insert_sequence"], opening.id, opening.gather,
            *rows.pack_cursor(opening.cursor), opening.waits, round(opening.age_s * 1000),
            opening.deadline_ms, token.head, source.queue, source.id, source.generation,
            source.birth_ms or 0, source.head, source.body,
        )  # fmt: skip
        if opening.cursor.is_finished:
            # A split into nothing: its gather is called once, with an empty run.
            await self.tell([Ready(opening.id, opening.gather, token.head)])

    async def _move(
        self, touched: list[str], closings: Sequence[Closing], releases: Mapping[str, Release]
    ) -> None:
        locked = await self._connection.fetch(self._sql["lock_sequences"], touched)
        by_sequence: dict[str, list[Closing]] = {}
        for closing in closings:
            by_sequence.setdefault(closing.sequence, []).append(closing)
        ready: list[Ready] = []
        for row in locked:
            sequence = row["id"].hex
            release = releases.get(sequence)
            if release is not None:
                await self._release(row, release)
            elif await self._is_ready(row, by_sequence[sequence]):
                ready.append(ready_of(row, row["age_ms"]))
        await self.tell(ready)

    async def _is_ready(self, row: Row, closings: Sequence[Closing]) -> bool:
        """Whether one of these closings lets the sequence move; drop those that came late."""
        cursor = rows.cursor_of(row)
        if row["state"] != 0:
            await self._connection.execute(self._sql["delete_all_parts"], row["id"])
            return False
        if row["is_ready"]:
            return False
        return any(is_awaited(cursor, c, waits=row["waits"]) for c in closings)

    async def _release(self, row: Row, release: Release) -> None:
        if unpack(row["next"]) != release.before or row["state"] != 0:
            raise StateClash(f"Sequence {release.sequence} was moved on by another instance.")
        after = release.after
        is_over = release.is_failed or after.is_finished
        state = 2 if release.is_failed else 1 if after.is_finished else 0
        await self._connection.execute(
            self._sql["move_sequence"], release.sequence, *rows.pack_cursor(after),
            release.released, state, release.emitted,
        )  # fmt: skip
        if is_over:
            await self._connection.execute(self._sql["delete_all_parts"], release.sequence)
            await self._connection.execute(
                self._sql["delete_states"], [f"sequence:{release.sequence}"]
            )
            return
        if not release.keeps_parts:
            still_open = [pack(path) for path in after.open_ancestors()]
            await self._connection.execute(
                self._sql["delete_parts"], release.sequence, pack(after.next), still_open
            )
        if release.more or row["is_expired"]:
            await self.tell([ready_of(row)])
        elif await self._can_go_on(release.sequence, after, waits=row["waits"]):
            await self.tell([ready_of(row, row["age_ms"])])

    async def _can_go_on(self, sequence: str, cursor: Cursor, *, waits: bool) -> bool:
        """Whether what the cursor waits for is there already."""
        paths = [cursor.next, *cursor.open_ancestors()]
        found = await self._connection.fetch(
            self._sql["find_parts"], sequence, [pack(path) for path in paths]
        )
        closings = [
            Closing(
                sequence=sequence,
                path=unpack(row["path"]),
                by=ClosedBy(row["closed_by"]),
                total=row["total"],
            )
            for row in found
        ]
        return any(is_awaited(cursor, closing, waits=waits) for closing in closings)

    async def tell(self, ready: Sequence[Ready]) -> None:
        """Mark sequences ready, and make the tokens that tell their gathers."""
        if not ready:
            return
        marked = await self._connection.fetch(
            self._sql["mark_ready"], [one.sequence for one in ready]
        )
        tokens = {row["id"].hex: row["tokens"] for row in marked}
        for one in ready:
            token = rows.token_of(one.sequence, one.gather, tokens[one.sequence], one.head)
            if one.age_ms:
                self.tokens.later.append(Due(token, self._now_ms + one.age_ms))
            else:
                self.tokens.now.append(token)


def ready_of(row: Row, age_ms: int = 0) -> Ready:
    """Say that the sequence of a row is ready."""
    return Ready(row["id"].hex, row["gather"], row["token_head"], age_ms)


def _first_of_each(closings: Sequence[Closing]) -> list[Closing]:
    """Keep what counts of closings of one position, ordered as everybody locks them."""
    kept: dict[tuple[str, Path], Closing] = {}
    for closing in closings:
        key = (closing.sequence, closing.path)
        held = kept.get(key)
        if held is None or replaces(held, closing, waits=True):
            kept[key] = closing
    return [kept[key] for key in sorted(kept)]
