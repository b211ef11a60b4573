"""What is being published: a batch for each call, written in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from rolekit.model.envelope import Packet

if TYPE_CHECKING:
    from rolekit.errors import RolekitError


class Batch(msgspec.Struct, eq=False):
    """What one call of `publish` wants, and how far it is.

    `sent` counts packets that were written. It is done when its last one is confirmed, or
    when its caller is cancelled: what was not written then is not. `unroutable` and
    `refused` are places in `packets`.
    """

    packets: Sequence[Packet]
    done: asyncio.Future[None]
    until_s: float
    sent: int = 0
    unroutable: set[int] = set()
    refused: set[int] = set()


class Piece(msgspec.Struct, eq=False):
    """Packets that were written together: numbers `first` to `last` of the channel."""

    batch: Batch
    first: int
    last: int
    begin: int
    size: int
    ends: bool


def fail(batch: Batch, error: RolekitError) -> None:
    """End a batch with an error, unless it ended already or its caller has gone."""
    if not batch.done.done():
        batch.done.set_exception(error)
        with suppress(BaseException):
            batch.done.exception()
