"""Between the store's data and Postgres's rows: columns as arrays, ids as hex."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from rolekit.model.envelope import Packet
from rolekit.model.ids import derive
from rolekit.model.position import pack, unpack
from rolekit.model.reassembly import ClosedBy, Closing, Cursor
from rolekit.store.base import Opening, Outgoing, Release, Reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DAY_MS = 86_400_000
UNKNOWN = 0xFFFFFFFF


class Row(Protocol):
    """A row of a result, as asyncpg gives it."""

    def __getitem__(self, name: str, /) -> Any:  # noqa: ANN401 - whatever type the column has
        """Return a column."""
        ...


def day_of(birth_ms: int) -> int:
    """Return the day, in UTC, of a birth: which part of the inbox has its row."""
    return birth_ms // DAY_MS


def packet_columns(packets: Iterable[Packet]) -> tuple[list[Any], ...]:
    """Turn packets into columns: queue, id, generation, birth_ms (0: now), head, body."""
    rows = [(p.queue, p.id, p.generation, p.birth_ms or 0, p.head, p.body) for p in packets]
    return tuple(list(column) for column in zip(*rows, strict=True))


ROW_BYTES = 4 << 20
ROW_PACKETS = 500


def fits_one_row(packets: Sequence[Packet]) -> bool:
    """Whether packets may be in one row of the outbox."""
    if len(packets) > ROW_PACKETS:
        return False
    return sum(len(packet.body) + len(packet.head) for packet in packets) < ROW_BYTES


def in_rows(packets: Sequence[Packet]) -> Iterator[Sequence[Packet]]:
    """Part packets into what goes into one row of the outbox."""
    begin = size = 0
    for at, packet in enumerate(packets):
        size += len(packet.body) + len(packet.head)
        if at - begin + 1 == ROW_PACKETS or size >= ROW_BYTES:
            yield packets[begin : at + 1]
            begin, size = at + 1, 0
    if begin < len(packets):
        yield packets[begin:]


def outgoing_of(row: Row) -> list[Outgoing]:
    """Build the packets of a row of the outbox."""
    columns = (
        row[name] for name in ("queues", "ids", "generations", "births_ms", "heads", "bodies")
    )
    return [
        Outgoing(row["n"], Packet(queue=queue, id=id_.hex, generation=generation,
                                  birth_ms=birth_ms, head=head, body=body))
        for queue, id_, generation, birth_ms, head, body in zip(*columns, strict=True)
    ]  # fmt: skip


def packet_of(row: Row, birth: str = "birth_ms") -> Packet:
    """Build a packet from the columns of a row."""
    return Packet(
        queue=row["queue"],
        id=row["id"].hex,
        generation=row["generation"],
        birth_ms=row[birth],
        head=row["head"],
        body=row["body"],
    )


def source_of(row: Row) -> Packet:
    """Build the packet of the message that was split."""
    return Packet(
        queue=row["source_queue"],
        id=row["source_id"].hex,
        generation=row["source_generation"],
        birth_ms=row["source_birth_ms"],
        head=row["source_head"],
        body=row["source_body"],
    )


def closing_columns(closings: Sequence[Closing]) -> tuple[list[Any], ...]:
    """Turn closings into the columns of `part`."""
    rows = [
        (c.sequence, pack(c.path), int(c.by), c.total, c.type, c.type_version, c.codec, c.body,
         c.detail, c.dead_letter)
        for c in closings
    ]  # fmt: skip
    return tuple(list(column) for column in zip(*rows, strict=True))


def leaf_columns(closings: Sequence[Closing]) -> tuple[Any, ...] | None:
    """Turn parts of one type into fewer columns; None where they are not.

    asyncpg takes several microseconds for each item of an array, whatever it is.
    """
    first = closings[0]
    kind = (first.type, first.type_version, first.codec)
    for c in closings:
        if c.by is not ClosedBy.PART or (c.type, c.type_version, c.codec) != kind:
            return None
    return (
        [c.sequence for c in closings],
        [pack(c.path) for c in closings],
        [c.body for c in closings],
        *kind,
    )


def opening_columns(openings: Sequence[Opening]) -> tuple[list[Any], ...]:
    """Turn openings into columns of `sequence`."""
    columns = [
        (o.id, o.gather, *pack_cursor(o.cursor), o.waits, round(o.age_s * 1000), o.deadline_ms,
         o.token.head, o.source.queue, o.source.id, o.source.generation, o.source.birth_ms or 0,
         o.source.head, o.source.body, o.is_ordered, o.is_stream)
        for o in sorted(openings, key=lambda o: o.id)
    ]  # fmt: skip
    return tuple(list(column) for column in zip(*columns, strict=True))


def release_columns(releases: Sequence[Release]) -> tuple[list[Any], ...]:
    """Turn releases into what moves their sequences on: 1 is finished, 2 failed."""
    columns = [
        (r.sequence, *pack_cursor(r.after), r.released,
         2 if r.is_failed else 1 if r.after.is_finished else 0, r.emitted)
        for r in releases
    ]  # fmt: skip
    return tuple(list(column) for column in zip(*columns, strict=True))


def outline_of(row: Row) -> Closing:
    """Build a closing without its body: enough to say whether a cursor can pass it."""
    return Closing(
        sequence=row["sequence"].hex,
        path=unpack(row["path"]),
        by=ClosedBy(row["closed_by"]),
        total=row["total"],
    )


def closing_of(sequence: str, row: Row) -> Closing:
    """Build a closing from a row of `part`."""
    return Closing(
        sequence=sequence,
        path=unpack(row["path"]),
        by=ClosedBy(row["closed_by"]),
        total=row["total"],
        type=row["type"],
        type_version=row["type_version"],
        codec=row["codec"],
        body=row["body"],
        detail=row["detail"],
        dead_letter=row["dead_letter"],
    )


def pack_cursor(cursor: Cursor) -> tuple[bytes, bytes]:
    """Encode a cursor as its two columns."""
    totals = tuple(UNKNOWN if total is None else total for total in cursor.totals)
    return pack(cursor.next), pack(totals)


def cursor_of(row: Row) -> Cursor:
    """Build a cursor from its two columns."""
    totals = tuple(None if total == UNKNOWN else total for total in unpack(row["totals"]))
    return Cursor(unpack(row["next"]), totals)


def reply_of(row: Row) -> Reply:
    """Build a reply from its row."""
    return Reply(
        root=row["root"].hex,
        id=row["id"].hex,
        n=row["n"],
        type=row["type"],
        type_version=row["type_version"],
        codec=row["codec"],
        body=row["body"],
        is_failure=row["is_failure"],
        trace=row["trace"],
    )


def token_of(sequence: str, gather: str, tokens: int, head: bytes) -> Packet:
    """Build the packet that tells a gather to release.

    Each time a sequence becomes ready its token has an id of its own; what keeps it from
    acting twice is its inbox row, and the cursor that its release compares.
    """
    return Packet(queue=gather, id=derive(sequence, "release", tokens), head=head)
