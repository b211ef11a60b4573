"""Bytes kept under the name of their content: saved once, and read once per process.

What a name stands for never changes, so what was read or saved lately needs no second trip
to the store. But the store is told what is still used, or it would drop it one day: by saves
at once, and by loads in the background, each blob once an hour.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

from rolekit.errors import RolekitError
from rolekit.model.message import Blob

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

    from rolekit.clock import Clock
    from rolekit.store.base import Store

MAX_BLOB_BYTES = 256 * 1024 * 1024
CACHE_BYTES = 16 * 1024 * 1024
"""Per process; a blob larger than a quarter of it is not kept."""
USED_EVERY_MS = 3_600_000
USED_NAMES = 10_000
"""Names of which it is known when they were used; another one is used again too early."""


class Blobs:
    """Saves and loads blobs.

    Args:
        store: Where they are.
        clock: Says when the store is told again that a blob is used.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._used: OrderedDict[str, int] = OrderedDict()
        self._to_use: set[str] = set()
        self._using: asyncio.Task[None] | None = None
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0

    async def save(self, data: bytes | AsyncIterable[bytes], media_type: str) -> Blob:
        """Keep bytes under the name of their content.

        Raises:
            CodecError: There are too many.
        """
        kind = media_type or "application/octet-stream"
        if isinstance(data, (bytes, bytearray, memoryview)):
            whole = bytes(data)
            name = sha256(whole).hexdigest()
            if not self._was_used(name) and not await self._store.use_blobs([name]):
                await self._store.save_blob(_once(whole), MAX_BLOB_BYTES)
            self._note_use(name)
            self._keep(name, whole)
            return Blob(id=name, size_bytes=len(whole), media_type=kind)
        info = await self._store.save_blob(aiter(data), MAX_BLOB_BYTES)
        self._note_use(info.id)
        return Blob(id=info.id, size_bytes=info.size_bytes, media_type=kind)

    async def load(self, blob: Blob) -> bytes:
        """Return the bytes of a blob.

        Raises:
            RolekitError: It is not there (any more).
        """
        data = self._kept.get(blob.id)
        if data is not None:
            self._kept.move_to_end(blob.id)
            self._use_soon(blob.id)
            return data
        data = await self._store.load_blob(blob.id)
        if data is None:
            raise RolekitError(
                f"There is no blob {blob.id}.",
                fix="Blobs are kept while a message that can be delivered refers to them.",
            )
        self._keep(blob.id, data)
        self._use_soon(blob.id)
        return data

    def _was_used(self, name: str) -> bool:
        """Whether the store was told within the hour that a blob is used, and has it."""
        used_ms = self._used.get(name)
        return used_ms is not None and self._clock.now_ms() - used_ms < USED_EVERY_MS

    def _note_use(self, name: str) -> None:
        self._used[name] = self._clock.now_ms()
        self._used.move_to_end(name)
        if len(self._used) > USED_NAMES:
            self._used.popitem(last=False)

    def _use_soon(self, name: str) -> None:
        """Let the store know that a blob is used, without anybody waiting for it."""
        if self._was_used(name):
            return
        self._to_use.add(name)
        if self._using is None or self._using.done():
            self._using = asyncio.create_task(self._use())

    async def _use(self) -> None:
        while self._to_use:
            names, self._to_use = self._to_use, set()
            with suppress(RolekitError):  # the next load tries again
                for name in await self._store.use_blobs(sorted(names)):
                    self._note_use(name)

    def _keep(self, name: str, data: bytes) -> None:
        if len(data) > CACHE_BYTES // 4 or name in self._kept:
            return
        self._kept[name] = data
        self._kept_bytes += len(data)
        while self._kept_bytes > CACHE_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
