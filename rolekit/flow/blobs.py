"""Bytes kept under the name of their content: saved once, and read once per process.

What a name stands for never changes, so what was read or saved lately needs no second trip
to the store.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING

from rolekit.errors import RolekitError
from rolekit.model.message import Blob

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

    from rolekit.store.base import Store

MAX_BLOB_BYTES = 256 * 1024 * 1024
CACHE_BYTES = 16 * 1024 * 1024
"""Per process; a blob larger than a quarter of it is not kept."""


class Blobs:
    """Saves and loads blobs.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
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
            if name not in self._kept and not await self._store.has_blob(name):
                await self._store.save_blob(_once(whole), MAX_BLOB_BYTES)
            self._keep(name, whole)
            return Blob(id=name, size_bytes=len(whole), media_type=kind)
        info = await self._store.save_blob(aiter(data), MAX_BLOB_BYTES)
        return Blob(id=info.id, size_bytes=info.size_bytes, media_type=kind)

    async def load(self, blob: Blob) -> bytes:
        """Return the bytes of a blob.

        Raises:
            RolekitError: It is not there (any more).
        """
        data = self._kept.get(blob.id)
        if data is not None:
            self._kept.move_to_end(blob.id)
            return data
        data = await self._store.load_blob(blob.id)
        if data is None:
            raise RolekitError(
                f"There is no blob {blob.id}.",
                fix="Blobs are kept while a message that can be delivered refers to them.",
            )
        self._keep(blob.id, data)
        return data

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
