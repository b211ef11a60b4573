"""Recent traces in Postgres: bounded, and not kept through a crash of the server.

Traces in which something failed or was slow outlive ten times as many others.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from rolekit.database import load_queries
from rolekit.model.span import Recall, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.database import Database

KEPT = 2_000
"""So many of the newest traces are kept; of those that failed or were slow, ten times."""
MOST_SPANS = 20_000
_ID_CHARS = 32

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Span)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A trace that is kept.

    Attributes:
        at: When its first span was kept, seconds since 1970.
        grade: 0: as it should be; 1: slow; 2: something failed.
        spans: How many of its spans have ended.
        name: Of the span that began first; empty for a trace that an older rolekit kept.
        seconds: From its first begin to the last end so far; None for such a one, and while
            none has ended.
    """

    id: str
    at: float
    grade: int
    spans: int
    name: str = ""
    seconds: float | None = None


class TraceStore:
    """Traces of one app.

    Args:
        database: The app's.
        kept: How many are kept.
    """

    def __init__(self, database: Database, *, kept: int = KEPT) -> None:
        self._db = database
        self._sql = load_queries("rolekit.store.sql", "traces.sql", database.schema)
        self._kept = kept

    async def keep(self, spans: Sequence[Span]) -> None:
        """Keep spans; one that ended replaces itself as it began.

        Raises:
            Unavailable: The database cannot be reached; the same again is safe.
        """
        newest = {(span.trace, span.id): span for span in spans}
        ordered = sorted(newest.values(), key=lambda span: (span.trace, span.id))
        traces = [
            (trace, list(its)) for trace, its in groupby(ordered, key=lambda span: span.trace)
        ]
        first = [min(its, key=lambda span: span.begun_ns) for _, its in traces]
        async with self._db.transaction() as connection:
            await connection.execute(
                self._sql["note_traces"],
                [trace for trace, _ in traces],
                [max(_grade(span) for span in its) for _, its in traces],
                [sum(bool(span.ended_ns) for span in its) for _, its in traces],
                [span.name for span in first],
                [span.begun_ns for span in first],
                [max(span.ended_ns for span in its) or None for _, its in traces],
            )
            await connection.execute(
                self._sql["keep_spans"],
                [span.trace for span in ordered],
                [span.id for span in ordered],
                [span.message if len(span.message) == _ID_CHARS else None for span in ordered],
                [bool(span.ended_ns) for span in ordered],
                [_encoder.encode(span) for span in ordered],
            )

    async def tidy(self) -> None:
        """Drop what is too old."""
        async with self._db.connection() as connection:
            await connection.execute(self._sql["drop_traces"], self._kept, self._kept * 10)

    async def recall(self, some: Sequence[tuple[Recall, str]]) -> None:
        """Ask every host for what it remembers of some traces.

        Args:
            some: Each with the span that the first kept one of it stands behind.
        """
        async with self._db.connection() as connection:
            await connection.execute(
                self._sql["recall"],
                [recall.root for recall, _ in some],
                [recall.trace for recall, _ in some],
                [parent for _, parent in some],
            )

    async def recalled(self) -> list[Recall]:
        """Return the traces that were asked for in the last seconds."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(self._sql["recalled"])
        return [Recall(row["root"], row["trace"]) for row in rows]

    async def drop_recalls(self) -> int:
        """Forget who was asked for a while ago; return of how many too little was there."""
        async with self._db.connection() as connection:
            return int(await connection.fetchval(self._sql["drop_recalls"]))

    async def newest(self, limit: int) -> list[Kept]:
        """Return the newest traces, the newest first."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(self._sql["newest"], limit)
        return [
            Kept(
                id=row["id"].hex,
                at=row["at"].timestamp(),
                grade=row["grade"],
                spans=row["spans"],
                name=row["name"],
                seconds=row["seconds"],
            )
            for row in rows
        ]

    async def of(self, id_: str) -> list[list[Span]]:
        """Return the traces of a message, or the trace of that id, the newest first."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["traces_of"], id_, 5)
            return [
                [
                    _decoder.decode(row["data"])
                    for row in await connection.fetch(
                        self._sql["spans_of"], UUID(trace["id"].hex), MOST_SPANS
                    )
                ]
                for trace in found
            ]

    async def begun(self, since: float, until: float) -> list[str]:
        """Return the traces that began between two times, seconds since 1970, in order."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(self._sql["begun"], since, until)
        return [row["id"].hex for row in rows]

    async def with_messages(self, messages: Sequence[str]) -> list[str]:
        """Return the traces that have spans of any of these messages."""
        ids = [one for one in messages if len(one) == _ID_CHARS]
        async with self._db.connection() as connection:
            rows = await connection.fetch(self._sql["traces_with"], ids)
        return [row["id"].hex for row in rows]

    async def spans_of(self, traces: Sequence[str]) -> list[list[Span]]:
        """Return the spans of some traces; of those that are not kept, nothing."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(self._sql["spans_of_all"], traces)
        found: dict[str, list[Span]] = {}
        for row in rows:
            found.setdefault(row["id"].hex, []).append(_decoder.decode(row["data"]))
        return [found[trace] for trace in traces if trace in found]


def _grade(span: Span) -> int:
    return 2 if span.error else int(span.is_slow)
