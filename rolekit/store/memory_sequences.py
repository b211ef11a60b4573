"""Sequences in memory: what Postgres does under a row's lock, done in one breath."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolekit.errors import StateClash
from rolekit.model import heap
from rolekit.model.envelope import Packet, as_behind
from rolekit.model.ids import derive
from rolekit.model.position import stream_number
from rolekit.model.reassembly import Closing, Cursor, is_awaited, replaces
from rolekit.store.base import Due, Opening, Release, SequenceView, Step, Streamed
from rolekit.store.streams import begun, placed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.model.position import Path

OPEN, FINISHED, FAILED = 0, 1, 2


@dataclass(slots=True)
class SequenceRow:
    """One sequence and what closed its positions."""

    opening: Opening
    cursor: Cursor
    parts: dict[Path, Closing] = field(default_factory=dict["Path", Closing])
    released: int = 0
    emitted: int = 0
    sealed: Path | None = None
    state: int = OPEN
    is_ready: bool = False
    is_expired: bool = False
    tokens: int = 0
    runs: int = 0
    taken: dict[Path, int | None] = field(default_factory=dict["Path", "int | None"])
    sealed_paths: tuple[Path, ...] | None = None
    moved_ms: int = 0
    late: int = 0
    repeated: int = 0
    conflicting: int = 0

    def close(self, closing: Closing) -> None:
        """Store a closing; the first one counts, but for what `replaces` says."""
        if heap.is_late(self.cursor, closing.path):
            self.late += 1
            return
        if not self.opening.is_ordered and self._is_taken(closing):
            self.repeated += 1
            return
        held = self.parts.get(closing.path)
        if held is None or replaces(held, closing, waits=self.opening.waits):
            self.parts[closing.path] = closing
        else:
            self.repeated += 1
            self.conflicting += (held.by, held.total, held.body) != (
                closing.by, closing.total, closing.body,
            )  # fmt: skip

    def _is_taken(self, closing: Closing) -> bool:
        """Whether a position of a heap was handed over, and no split ends there now."""
        path = closing.path
        return path in self.taken and not heap.ends_taken(self.taken[path], closing)

    def lets_move(self, closings: Iterable[Closing]) -> bool:
        """Whether one of these closings lets the cursor move."""
        if not self.opening.is_ordered:
            return any(c.path in self.parts and self._is_welcome(c) for c in closings)
        return any(is_awaited(self.cursor, c, waits=self.opening.waits) for c in closings)

    def _is_welcome(self, closing: Closing) -> bool:
        return heap.is_welcome(closing, waits=self.opening.waits)

    def can_go_on(self) -> bool:
        """Whether what the cursor waits for is there already."""
        if not self.opening.is_ordered:
            return any(map(self._is_welcome, self.parts.values()))
        paths = [self.cursor.next, *self.cursor.open_ancestors()]
        return self.lets_move(self.parts[path] for path in paths if path in self.parts)

    def token(self, *, follows: bool = False) -> Packet:
        """Mark it ready, and make the packet that tells its gather."""
        head = self.opening.token.head
        self.is_ready = True
        self.tokens += 1
        id_ = derive(self.opening.id, "release", self.tokens)
        head = as_behind(head) if follows else head
        return Packet(queue=self.opening.gather, id=id_, head=head)

    def move(self, release: Release, now_ms: int) -> None:
        """Put the cursor behind a run; what was released is forgotten."""
        self.moved_ms = now_ms
        if release.after.next != release.before:
            self.sealed = None  # else it found nothing, and somebody may be at the next run
        self.cursor = release.after
        self.released += release.released
        self.emitted = release.emitted
        self.is_ready, self.sealed_paths = False, None
        self.runs += 1
        for path in release.taken:
            self.taken[path] = heap.taken_total(self.parts.pop(path))
        self.state = FAILED if release.is_failed else OPEN
        if self.state == OPEN and self.cursor.is_finished:
            self.state = FINISHED
        if self.state != OPEN:
            self.parts.clear()
            self.taken.clear()
        elif not release.keeps_parts:
            kept = set(self.cursor.open_ancestors())
            self.parts = {p: c for p, c in self.parts.items() if self._is_kept(p, kept)}
            self.taken = {p: n for p, n in self.taken.items() if self._is_kept(p, kept)}

    def _is_kept(self, path: Path, open_ancestors: set[Path]) -> bool:
        return path >= self.cursor.next or path in open_ancestors

    def skip(self, now_ms: int) -> Packet:
        """Go on behind the run that the gather of a stream was given up over."""
        if self.sealed is not None:
            after = Cursor(self.sealed, self.opening.cursor.totals[: len(self.sealed)])
            self.move(
                Release(
                    sequence=self.opening.id, before=self.cursor.next, after=after, released=0
                ),
                now_ms,
            )
        return self.token()

    def view(self, limit: int, *, whole: bool) -> SequenceView:
        """Show it, with the next `limit` closings; from the first one if `whole`."""
        begin: Path = () if whole else self.cursor.next
        ahead = sorted(path for path in self.parts if path >= begin)
        above = [path for path in self.cursor.open_ancestors() if path in self.parts]
        paths = sorted({*ahead[:limit], *(path for path in above if path < begin)})
        return SequenceView(
            gather=self.opening.gather,
            cursor=self.cursor,
            released=self.released,
            emitted=self.emitted,
            sealed=self.sealed,
            is_open=self.state == OPEN,
            is_expired=self.is_expired,
            source=self.opening.source,
            closings={path: self.parts[path] for path in paths},
            horizon=paths[-1] if len(ahead) >= limit else None,
            is_ordered=self.opening.is_ordered,
            is_stream=self.opening.is_stream,
            runs=self.runs,
        )

    def heap(self, limit: int) -> SequenceView:
        """Show it where parts are taken as they come."""
        welcome = sorted(path for path, c in self.parts.items() if self._is_welcome(c))
        chosen = welcome[:limit] if self.sealed_paths is None else self.sealed_paths
        above = [path for path in self.cursor.open_ancestors() if path in self.taken]
        ahead = sorted(path for path in self.taken if path >= self.cursor.next)[:limit]
        cuts = [some[-1] for some in (chosen, ahead) if len(some) >= limit]
        return SequenceView(
            gather=self.opening.gather,
            cursor=self.cursor,
            released=self.released,
            emitted=self.emitted,
            sealed=None,
            is_open=self.state == OPEN,
            is_expired=self.is_expired,
            source=self.opening.source,
            closings={path: self.parts[path] for path in chosen},
            horizon=min(cuts, default=None),
            is_ordered=self.opening.is_ordered,
            is_stream=self.opening.is_stream,
            runs=self.runs,
            taken={
                path: heap.outline(self.opening.id, path, self.taken[path])
                for path in [*above, *ahead]
            },
            sealed_paths=self.sealed_paths,
        )


class Sequences:
    """All of them, by id."""

    def __init__(self) -> None:
        self.rows: dict[str, SequenceRow] = {}
        self.streams: dict[str, tuple[str, int]] = {}

    def check(self, releases: Iterable[Release]) -> None:
        """Refuse releases whose cursor was moved on.

        Raises:
            StateClash: One was.
        """
        moved: set[str] = set()
        for release in releases:
            row = self.rows.get(release.sequence)
            is_there = row is not None and row.state == OPEN and _is_at(row, release)
            if not is_there or release.sequence in moved:
                raise StateClash(
                    f"Sequence {release.sequence} was moved on by another instance."
                )
            moved.add(release.sequence)

    def run(self, steps: Sequence[Step], now_ms: int) -> tuple[list[Packet], list[Due]]:
        """Open, close and release; return the tokens that leave now, and those for later."""
        now: list[Packet] = []
        later: list[Due] = []
        for step in steps:
            if step.opening is not None and step.opening.id not in self.rows:
                now += self._open(step.opening, now_ms)
        closings: dict[str, list[Closing]] = {}
        for closing in (closing for step in steps for closing in step.closings):
            closings.setdefault(closing.sequence, []).append(closing)
            if (row := self.rows.get(closing.sequence)) is not None:
                row.close(closing)
        releases = {s.release.sequence: s.release for s in steps if s.release is not None}
        for sequence in sorted({*closings, *releases} & self.rows.keys()):
            row, release = self.rows[sequence], releases.get(sequence)
            if release is not None:
                row.move(release, now_ms)
            if row.state != OPEN:
                row.parts.clear()
            elif release is not None and (release.follows or release.more or row.is_expired):
                now.append(row.token(follows=release.follows))
            elif row.can_go_on() if release else self._is_ready(row, closings[sequence]):
                self._tell(row, now_ms, now, later)
        return now, later

    def stream(
        self, streamed: Sequence[Streamed], now_ms: int
    ) -> tuple[list[Packet], list[Due]]:
        """Give the next positions of streams; return what leaves, now and later."""
        now: list[Packet] = []
        later: list[Due] = []
        for one in streamed:
            id_ = one.opening.id
            _, number = self.streams.get(id_, (one.name, 0))
            if id_ not in self.rows:
                self._open(one.opening, now_ms)
            self.streams[id_] = (one.name, number + 1)
            row, closings = self.rows[id_], begun(id_, number, number + 1)
            for closing in closings:
                row.close(closing)
            if self._is_ready(row, closings):
                self._tell(row, now_ms, now, later)
            now.append(placed(one, number))
        return now, later

    def backlogs(self, sequences: Iterable[str]) -> dict[str, int]:
        """Say how many positions of these streams were given and not released."""
        return {
            id_: self.streams[id_][1] - stream_number(self.rows[id_].cursor.next)
            for id_ in sequences
            if id_ in self.streams
        }

    def _open(self, opening: Opening, now_ms: int) -> list[Packet]:
        row = SequenceRow(opening, opening.cursor, moved_ms=now_ms)
        self.rows[opening.id] = row
        # A split into nothing: its gather is called once, with an empty run.
        return [row.token()] if opening.cursor.is_finished else []

    def _is_ready(self, row: SequenceRow, closings: Sequence[Closing]) -> bool:
        return not row.is_ready and row.lets_move(closings)

    def _tell(self, row: SequenceRow, now_ms: int, now: list[Packet], later: list[Due]) -> None:
        age_ms = round(row.opening.age_s * 1000)
        token = row.token()
        if age_ms:
            later.append(Due(token, now_ms + age_ms))
        else:
            now.append(token)

    def seal(
        self, sequence: str, before: Path, end: Path, closings: Iterable[Closing]
    ) -> Path | None:
        """Fix where a run ends; an end that was fixed earlier wins. None: it was moved on."""
        row = self.rows.get(sequence)
        if row is None or row.state != OPEN or row.cursor.next != before:
            return None
        for closing in closings:
            row.close(closing)
        if row.sealed is None:
            row.sealed = end
        return row.sealed

    def seal_heap(
        self, sequence: str, run: int, paths: Sequence[Path] | None, closings: Iterable[Closing]
    ) -> tuple[Path, ...] | None:
        """Fix what a run takes; what was fixed earlier wins. None: another has begun."""
        row = self.rows.get(sequence)
        if row is None or row.state != OPEN or row.runs != run:
            return None
        for closing in closings:
            row.close(closing)
        if row.sealed_paths is None and paths is not None:
            row.sealed_paths = tuple(paths)
        return row.sealed_paths or ()

    def expire(self, now_ms: int, limit: int) -> list[Packet]:
        """Note whose time is up; return the tokens of those that have none on its way."""
        due = [row for row in self.waiting() if row.opening.deadline_ms <= now_ms]
        tokens: list[Packet] = []
        for row in sorted(due, key=lambda row: row.opening.deadline_ms)[:limit]:
            row.is_expired = True
            if not row.is_ready:
                tokens.append(row.token())
        return tokens

    def waiting(self) -> list[SequenceRow]:
        """List those that a deadline can still end."""
        return [
            row
            for row in self.rows.values()
            if row.state == OPEN and not row.is_expired and not row.opening.waits
        ]


def _is_at(row: SequenceRow, release: Release) -> bool:
    """Whether a sequence still is where a release began."""
    if release.run is not None:
        return row.runs == release.run
    return row.cursor.next == release.before
