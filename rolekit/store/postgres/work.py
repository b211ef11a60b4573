"""What one commit does to sequences: close positions, then, under each row's lock, move on.

The closing is stored before the lock is asked for, in a statement of its own; whoever holds
the lock reads positions in a later statement. So of a storer and a releaser that meet, the
second one to get the lock sees what the first did, and the sequence is marked ready.

Source: DESIGN 4, "Storing" and "Releasing".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rolekit.errors import StateClash
from rolekit.model.envelope import Packet, as_behind
from rolekit.model.position import Path, pack, unpack
from rolekit.model.reassembly import Closing, is_awaited, replaces
from rolekit.store.base import Due, Opening, Release, Step
from rolekit.store.postgres import rows
from rolekit.store.postgres.heap_work import HeapWork
from rolekit.store.postgres.odd import Odd
from rolekit.store.postgres.transactions import rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.connections import Pooled
    from rolekit.store.postgres.rows import Row


@dataclass(slots=True)
class Tokens:
    """Packets that tell gathers there is something to release."""

    now: list[Packet] = field(default_factory=list[Packet])
    later: list[Due] = field(default_factory=list[Due])


@dataclass(frozen=True, slots=True)
class Ready:
    """A sequence that has something to release; its run may wait `age_ms` for more.

    Attributes:
        follows: Its token leaves behind what the run before gave.
    """

    sequence: str
    gather: str
    head: bytes
    age_ms: int = 0
    follows: bool = False


class SequenceWork:
    """The part of one commit that is about sequences: a few statements, however many there are.

    Args:
        connection: In the transaction of the commit.
        sql: Named queries.
        now_ms: For runs that wait for more parts.
    """

    def __init__(self, connection: Pooled, sql: Mapping[str, str], now_ms: int) -> None:
        self._connection = connection
        self._sql = sql
        self._now_ms = now_ms
        self._ready: list[Ready] = []
        self._odd = Odd(connection, sql)
        self._heaps = HeapWork(connection, sql, self._odd)
        self.tokens = Tokens()

    async def run(self, steps: Sequence[Step]) -> Tokens:
        """Open, close and release, in this order; return the tokens that must leave.

        Raises:
            StateClash: A cursor is not where its release began; somebody was faster.
        """
        await self.open([step.opening for step in steps if step.opening is not None])
        closings = [closing for step in steps for closing in step.closings]
        releases = {s.release.sequence: s.release for s in steps if s.release is not None}
        return await self.close(closings, releases)

    async def close(
        self, closings: Sequence[Closing], releases: Mapping[str, Release] | None = None
    ) -> Tokens:
        """Close positions and move sequences on; return the tokens that must leave."""
        releases = releases or {}
        for some in _rounds(closings):
            leaves = rows.leaf_columns(some)
            status = await (
                self._connection.execute(self._sql["insert_parts"], *rows.closing_columns(some))
                if leaves is None
                else self._connection.execute(self._sql["insert_leaves"], *leaves)
            )
            if rows_of(status) < len(some):
                await self._odd.look(some)
        touched = sorted({c.sequence for c in closings} | set(releases))
        if touched:
            await self._move(touched, closings, releases)
        await self.tell(self._ready)
        await self._odd.count()
        return self.tokens

    async def open(self, openings: Sequence[Opening]) -> None:
        """Make the rows of sequences; those without parts are ready at once."""
        if not openings:
            return
        await self._connection.execute(
            self._sql["insert_sequences"], *rows.opening_columns(openings)
        )
        # A split into nothing: its gather is called once, with an empty run.
        self._ready += [
            Ready(opening.id, opening.gather, opening.token.head)
            for opening in openings
            if opening.cursor.is_finished
        ]

    async def _move(
        self, touched: list[str], closings: Sequence[Closing], releases: Mapping[str, Release]
    ) -> None:
        locked = await self._connection.fetch(self._sql["lock_sequences"], touched)
        by_sequence: dict[str, list[Closing]] = {}
        for closing in closings:
            by_sequence.setdefault(closing.sequence, []).append(closing)
        moving: list[tuple[Row, Release]] = []
        over: list[str] = []
        welcomed = await self._welcomed(locked, by_sequence)
        for row in locked:
            sequence = row["id"].hex
            if row["is_ordered"] and sequence in by_sequence:
                self._odd.late_among(rows.cursor_of(row), by_sequence[sequence])
            release = releases.get(sequence)
            if release is not None:
                _check_cursor(row, release)
                moving.append((row, release))
            elif row["state"] != 0:
                over.append(sequence)
            elif not row["is_ready"] and (
                sequence in welcomed
                if not row["is_ordered"]
                else _awaits(row, by_sequence[sequence])
            ):
                self._ready.append(ready_of(row, row["age_ms"]))
        over += [release.sequence for _, release in moving if _is_over(release)]
        if moving:
            await self._release([release for _, release in moving])
            await self._look_on(moving)
        if over:
            await self._end(over)

    async def _welcomed(
        self, locked: Sequence[Row], closings: Mapping[str, Sequence[Closing]]
    ) -> set[str]:
        """Name the heaps among these that got something to take."""
        heaps = {row["id"].hex: row for row in locked if not row["is_ordered"]}
        stored = [one for sequence in heaps for one in closings.get(sequence, ())]
        return await self._heaps.welcomed(heaps, stored) if stored else set()

    async def _release(self, releases: Sequence[Release]) -> None:
        await self._connection.execute(
            self._sql["move_sequences"], *rows.release_columns(releases)
        )
        going_on = [r for r in releases if not _is_over(r) and not r.keeps_parts]
        for release in [r for r in going_on if r.run is not None]:
            await self._heaps.take(release)
        going_on = [r for r in going_on if r.run is None]
        if going_on:
            kept = [(r.sequence, pack(p)) for r in going_on for p in r.after.open_ancestors()]
            await self._connection.execute(
                self._sql["delete_released"],
                [release.sequence for release in going_on],
                [pack(release.after.next) for release in going_on],
                [sequence for sequence, _ in kept],
                [path for _, path in kept],
            )

    async def _end(self, over: Sequence[str]) -> None:
        """Forget the parts and states of sequences that are over; late parts among them."""
        await self._connection.execute(self._sql["delete_parts"], over)
        scopes = [f"sequence:{sequence}" for sequence in over]
        await self._connection.execute(self._sql["delete_states"], scopes)

    async def _look_on(self, moving: Sequence[tuple[Row, Release]]) -> None:
        """Make ready again what can go on: its next position may have closed meanwhile."""
        unsure: dict[str, tuple[Row, Release]] = {}
        for row, release in moving:
            if _is_over(release):
                continue
            if release.follows or release.more or row["is_expired"]:
                self._ready.append(replace(ready_of(row), follows=release.follows))
            else:
                unsure[release.sequence] = (row, release)
        heaps = [sequence for sequence, (row, _) in unsure.items() if not row["is_ordered"]]
        for sequence in await self._heaps.have_more(heaps) if heaps else ():
            row = unsure[sequence][0]
            self._ready.append(ready_of(row, row["age_ms"]))
        for sequence in heaps:
            del unsure[sequence]
        if not unsure:
            return
        asked = [
            (sequence, pack(path))
            for sequence, (_, release) in unsure.items()
            for path in (release.after.next, *release.after.open_ancestors())
        ]
        found = await self._connection.fetch(
            self._sql["find_parts"], [one[0] for one in asked], [one[1] for one in asked]
        )
        closed: dict[str, list[Closing]] = {}
        for part in found:
            closed.setdefault(part["sequence"].hex, []).append(rows.outline_of(part))
        for sequence, (row, release) in unsure.items():
            there = closed.get(sequence, ())
            if any(is_awaited(release.after, c, waits=row["waits"]) for c in there):
                self._ready.append(ready_of(row, row["age_ms"]))

    async def tell(self, ready: Sequence[Ready]) -> None:
        """Mark sequences ready, and make the tokens that tell their gathers."""
        if not ready:
            return
        marked = await self._connection.fetch(
            self._sql["mark_ready"], [one.sequence for one in ready]
        )
        tokens = {row["id"].hex: row["tokens"] for row in marked}
        for one in ready:
            head = as_behind(one.head) if one.follows else one.head
            token = rows.token_of(one.sequence, one.gather, tokens[one.sequence], head)
            if one.age_ms:
                self.tokens.later.append(Due(token, self._now_ms + one.age_ms))
            else:
                self.tokens.now.append(token)


def _check_cursor(row: Row, release: Release) -> None:
    is_there = unpack(row["next"]) == release.before
    if release.run is not None:
        is_there = row["runs"] == release.run
    if not is_there or row["state"] != 0:
        raise StateClash(f"Sequence {release.sequence} was moved on by another instance.")


def _awaits(row: Row, closings: Sequence[Closing]) -> bool:
    """Whether one of these closings lets the sequence move."""
    cursor = rows.cursor_of(row)
    return any(is_awaited(cursor, closing, waits=row["waits"]) for closing in closings)


def _is_over(release: Release) -> bool:
    return release.is_failed or release.after.is_finished


def ready_of(row: Row, age_ms: int = 0) -> Ready:
    """Say that the sequence of a row is ready."""
    return Ready(row["id"].hex, row["gather"], row["token_head"], age_ms)


def _rounds(closings: Sequence[Closing]) -> list[list[Closing]]:
    """Part closings so that no position is twice in a statement, ordered as everybody locks.

    The first of each go first. One that may replace it follows, and the statement decides:
    only that knows whether the sequence waits.
    """
    last: dict[tuple[str, Path], tuple[int, Closing]] = {}
    rounds: list[list[Closing]] = []
    for closing in closings:
        at = (closing.sequence, closing.path)
        number, held = last.get(at, (-1, None))
        if held is not None and not replaces(held, closing, waits=True):
            continue
        last[at] = (number + 1, closing)
        if len(rounds) == number + 1:
            rounds.append([])
        rounds[number + 1].append(closing)
    return [sorted(each, key=lambda c: (c.sequence, c.path)) for each in rounds]
