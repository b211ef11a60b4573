"""Blobs in memory: saved, used, and dropped when nothing needs them."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from rolekit.errors import CodecError
from rolekit.store.ages import DAY_MS, Ages
from rolekit.store.memory_sequences import OPEN
from rolekit.store.records import BlobInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from rolekit.model.envelope import Packet
    from rolekit.store.memory_tables import MemoryTables


class MemoryBlobs:
    """The part of the store in memory that keeps bytes."""

    tables: MemoryTables

    async def save_blob(self, data: AsyncIterator[bytes], max_bytes: int) -> BlobInfo:
        """Keep bytes once.

        Raises:
            CodecError: More than `max_bytes` came; nothing is kept.
        """
        held = bytearray()
        async for some in data:
            held += some
            if len(held) > max_bytes:
                raise CodecError(
                    f"A blob has more than {max_bytes} bytes.",
                    fix="Split it, or keep it in a store of your own.",
                )
        name = sha256(held).hexdigest()
        self.tables.blobs.setdefault(name, bytes(held))
        self.tables.blobs_used[name] = self.tables.clock.now_ms()
        return BlobInfo(name, len(held))

    async def use_blobs(self, ids: Sequence[str]) -> set[str]:
        """Note that these blobs are used; return which of them are there."""
        there = {name for name in ids if name in self.tables.blobs}
        self.tables.blobs_used.update(dict.fromkeys(there, self.tables.clock.now_ms()))
        return there

    async def load_blob(self, blob_id: str) -> bytes | None:
        """Read a blob; None when there is none."""
        return self.tables.blobs.get(blob_id)


def sweep(t: MemoryTables, now_ms: int) -> None:
    """Drop blobs that were not used for long and that nothing refers to, once a day."""
    day = now_ms // DAY_MS
    if t.blobs_swept == day:
        return
    t.blobs_swept = day
    ages = Ages(t.horizon_s, t.results_s)
    suspect_ms = ages.suspect_before(now_ms)
    # A test begins and ends: there are no days on which nothing ran.
    spent_ms = ages.spent_before(now_ms, now_ms)
    suspects = {name: at for name, at in t.blobs_used.items() if at < suspect_ms}
    kept = list(_kept(t)) if suspects else []
    for name, used_ms in suspects.items():
        if any(name.encode() in body for body in kept):
            t.blobs_used[name] = now_ms
        elif used_ms < spent_ms:
            del t.blobs[name], t.blobs_used[name]


def _kept(t: MemoryTables) -> Iterator[bytes]:
    """Yield everything that may refer to a blob."""
    for packet in _packets(t):
        yield packet.head
        yield packet.body
    for row in t.sequences.rows.values():
        yield from (closing.body for closing in row.parts.values())
    yield from (reply.body for _, reply in t.replies)
    yield from (body for _, body in t.states.values())


def _packets(t: MemoryTables) -> Iterator[Packet]:
    yield from (packet for row in t.outbox.values() for packet in row.packets)
    yield from (packet for row in t.sent for packet in row.packets)
    yield from (due.packet for due in t.schedule.values())
    yield from (aside.packet for waiting in t.of_keys.lists.values() for aside in waiting)
    for letter in t.dead.values():
        if not letter.is_closed or letter.closed_how == "answered":
            yield letter.packet
    for row in t.sequences.rows.values():
        if row.state == OPEN:
            yield row.opening.source
