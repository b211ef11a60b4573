"""Deterministic ids: the same step names its outputs the same way, however often it runs.

An id is 128 bits, written as 32 lower-case hexadecimal digits.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable

ID_BYTES = 16
CHECK_DIGITS = 6
_CHECK = (1 << 4 * CHECK_DIGITS) - 1
"""Of the id of a root message: one wrong id in 16 million passes, and 104 bits are left."""


def derive(parent: str, *slot: str | int) -> str:
    """Name an output of `parent` by its slot.

    The parts of a slot are length-prefixed, so no two different slots run together.

    Args:
        parent: The id of the message, or sequence, that causes the output.
        slot: What tells the output from its siblings: handler, index, destination.

    Returns:
        128 bits as 32 hexadecimal digits.

    Source: DESIGN 4.4, "Output of a recorded step: blake2b-128(id, slot)".
    """
    data = bytes.fromhex(parent) + b"".join(map(_prefixed, slot))
    return blake2b(data, digest_size=ID_BYTES).hexdigest()


@lru_cache(maxsize=4096, typed=True)
def _prefixed(part: str | int) -> bytes:
    """Encode a part of a slot; most are names of handlers and small numbers."""
    data = str(part).encode()
    return len(data).to_bytes(4, "big") + data


def keyed(*parts: str) -> str:
    """Name a root message by what its sender called it: route, caller, idempotency key."""
    return derive("", *parts)


def body_hash(body: bytes) -> str:
    """Fingerprint a body, to tell a repeat from another request under the same key."""
    return blake2b(body, digest_size=ID_BYTES).hexdigest()


def given_by(app: str, id_: str) -> str:
    """Let the id of a root message tell which app gave it: its last digits check the others.

    So an id that was never given is known without a row for each that was. It keeps nobody
    out: whoever knows the name of the app can make one.
    """
    return all_given_by(app, (id_,))[0]


def all_given_by(app: str, ids: Iterable[str]) -> list[str]:
    """Do as `given_by` does with each of many ids, for less than half of the time."""
    seed, end = _seed(app), -CHECK_DIGITS
    return [f"{id_[:end]}{crc32(id_[:end].encode(), seed) & _CHECK:06x}" for id_ in ids]


@lru_cache
def _seed(app: str) -> int:
    return crc32(app.encode())


def is_given_by(app: str, id_: str) -> bool:
    """Say whether an id may be of a root message of this app; of another id, surely not."""
    return given_by(app, id_) == id_
