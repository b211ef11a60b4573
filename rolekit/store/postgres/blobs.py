"""Blobs: saved in pieces, named by their content, and dropped when nothing needs them.

A save and a drop of the same content meet on its row: whoever saves waits for the drop and
then inserts anew, or has moved `used_at` on, and the drop passes the row by.
"""

from __future__ import annotations

import math
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from rolekit.errors import CodecError, RolekitError
from rolekit.store.ages import Ages
from rolekit.store.postgres import rows
from rolekit.store.postgres.steps import PostgresBase
from rolekit.store.records import BlobInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

CHUNK_BYTES = 1024 * 1024
DROPPED_AT_ONCE = 20
"""Blobs that one commit drops; each may have 256 pieces."""
SEARCH_S = 600
"""So long the search of everything that is kept may take; it is tried again a day later."""

log = structlog.get_logger("rolekit.relay")


class BlobStore(PostgresBase):
    """Bytes kept under the name of their content."""

    async def save_blob(self, data: AsyncIterator[bytes], max_bytes: int) -> BlobInfo:
        """Keep bytes once, in pieces, so that no blob is held in memory whole.

        Raises:
            CodecError: More than `max_bytes` came; nothing is kept.
        """
        digest, size, number, upload = sha256(), 0, 0, uuid4()
        try:
            # No connection is held while the next piece is waited for.
            async for piece in _pieces(data):
                size = _within(size + len(piece), max_bytes)
                digest.update(piece)
                await self._run("insert_chunk", upload, number, piece)
                number += 1
        except BaseException:
            with suppress(RolekitError):
                await self._run("delete_chunks", upload)
            raise
        name = digest.hexdigest()
        async with self._db.connection() as connection:
            is_new = await connection.fetchval(self._sql["insert_blob"], name, size, upload)
        if not is_new:
            await self._run("delete_chunks", upload)
        return BlobInfo(name, size)

    async def _run(self, name: str, *args: object) -> str:
        async with self._db.connection() as connection:
            return str(await connection.execute(self._sql[name], *args))

    async def use_blobs(self, ids: Sequence[str]) -> set[str]:
        """Note that these blobs are used; return which of them are there."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["use_blobs"], list(ids))
        return {row["id"] for row in found}

    async def load_blob(self, blob_id: str) -> bytes | None:
        """Read a blob; None when there is none."""
        async with self._db.connection() as connection:
            pieces = await connection.fetch(self._sql["load_blob"], blob_id)
            if not pieces and await connection.fetchval(self._sql["has_blob"], blob_id) is None:
                return None
        return b"".join([row["data"] for row in pieces])

    async def sweep_blobs(self, now_ms: int) -> None:
        """Drop blobs that nothing needs any more, once a day, whichever relay comes first.

        Nothing is dropped unless everything that is kept was searched before.
        """
        async with self._db.connection() as connection:
            day = await connection.fetchval(self._sql["claim_sweep"], rows.day_of(now_ms))
        if day is None:
            return
        ages = Ages(self.horizon_s, self.results_s)
        suspect_ms = ages.suspect_before(now_ms)
        async with self._db.connection() as connection:
            old = await connection.fetchval(self._sql["has_old_blobs"], suspect_ms)
            days = math.ceil(self.horizon_s / 86_400)
            since = await connection.fetchval(self._sql["ran_since"], days)
        if old is None or since is None:
            return
        await self._use_referred(suspect_ms, now_ms)
        dropped = await self._drop_blobs(ages.spent_before(now_ms, since * rows.DAY_MS))
        if dropped:
            log.info("dropped blobs that nothing needs any more", blobs=dropped)

    async def _use_referred(self, before_ms: int, now_ms: int) -> None:
        async with self._db.transaction() as connection:
            await connection.execute(f"set local statement_timeout = '{SEARCH_S}s'")
            await connection.execute(
                self._sql["use_referred"], before_ms, now_ms, timeout=SEARCH_S + 15
            )

    async def _drop_blobs(self, before_ms: int) -> int:
        dropped = 0
        while True:
            async with self._db.connection() as connection:
                count: int = await connection.fetchval(
                    self._sql["drop_blobs"], before_ms, DROPPED_AT_ONCE
                )
            dropped += count
            if count < DROPPED_AT_ONCE:
                return dropped


def _within(size: int, max_bytes: int) -> int:
    if size > max_bytes:
        raise CodecError(
            f"A blob has more than {max_bytes} bytes.",
            fix="Split it, or keep it in a store of your own.",
        )
    return size


async def _pieces(data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut a stream of bytes into pieces of one size."""
    held = bytearray()
    async for some in data:
        held += some
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)
