"""What handlers ask for while they run: states, kept results, blobs."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from rolekit.errors import CodecError, RolekitError
from rolekit.store.base import BlobInfo, StateKey
from rolekit.store.postgres.steps import PostgresBase
from rolekit.store.postgres.together import Together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

CHUNK_BYTES = 1024 * 1024


class KeepingStore(PostgresBase):
    """Reads and small commits of their own, outside any step."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as PostgresBase
        super().__init__(*args, **options)
        self._states: Together[StateKey, tuple[int, bytes]] = Together(self._read_states)

    async def load_states(
        self, keys: Sequence[StateKey]
    ) -> Mapping[StateKey, tuple[int, bytes]]:
        """Read states with their versions; those that are not there are left out."""
        return await self._states.ask(keys)

    async def _read_states(self, keys: Sequence[StateKey]) -> dict[StateKey, tuple[int, bytes]]:
        async with self._db.connection() as connection:
            found = await connection.fetch(
                self._sql["load_states"],
                [key.scope for key in keys],
                [key.name for key in keys],
                [key.key for key in keys],
            )
        return {
            StateKey(row["scope"], row["name"], row["key"]): (row["version"], row["body"])
            for row in found
        }

    async def recall(self, message_id: str, name: str) -> bytes | None:
        """Read what `ctx.once` kept for a message."""
        async with self._db.connection() as connection:
            value: bytes | None = await connection.fetchval(
                self._sql["recall"], message_id, name
            )
        return value

    async def remember(self, message_id: str, name: str, value: bytes) -> bytes:
        """Keep a result of `ctx.once`, in a commit of its own; the first one wins."""
        async with self._db.connection() as connection:
            kept: bytes = await connection.fetchval(
                self._sql["remember"], message_id, name, value
            )
        return kept

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
        if (await self._run("insert_blob", name, size, upload)).endswith(" 0"):
            await self._run("delete_chunks", upload)
        return BlobInfo(name, size)

    async def _run(self, name: str, *args: object) -> str:
        async with self._db.connection() as connection:
            return str(await connection.execute(self._sql[name], *args))

    async def has_blob(self, blob_id: str) -> bool:
        """Say whether a blob is there."""
        async with self._db.connection() as connection:
            return await connection.fetchval(self._sql["has_blob"], blob_id) is not None

    async def load_blob(self, blob_id: str) -> bytes | None:
        """Read a blob; None when there is none."""
        async with self._db.connection() as connection:
            pieces = await connection.fetch(self._sql["load_blob"], blob_id)
            if not pieces and await connection.fetchval(self._sql["has_blob"], blob_id) is None:
                return None
        return b"".join([row["data"] for row in pieces])


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
