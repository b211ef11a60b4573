"""What is being published: a batch for each call, written in pieces."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from rolekit.errors import RolekitError
    from rolekit.model.envelope import Packet


@dataclass(slots=True, eq=False)
class Batch:
    """What one call of `publish` wants, and how far it is.

    `sent` counts packets that were written. It is done when its last one is confirmed, or
    when its caller is cancelled: what was not written then is not. `unroutable` and
    `refused` are places in `packets`.
    """

    packets: Sequence[Packet]
    done: asyncio.Future[None]
    until_s: float
    sent: int = 0
    unroutable: set[int] = field(default_factory=set[int])
    refused: set[int] = field(default_factory=set[int])


@dataclass(slots=True, eq=False)
class Piece:
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
