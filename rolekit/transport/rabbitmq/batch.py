"""What is being published: a batch for each call, written in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from rolekit.errors import QueueFull, Unroutable
from rolekit.model.envelope import Packet
from rolekit.transport.rabbitmq.topology import remedy_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.errors import RolekitError


class Batch(msgspec.Struct, eq=False):
    """What one call of `publish` wants, and how far it is.

    `sent` counts packets that were written. It is done when its last one is confirmed, or
    when its caller is cancelled: what was not written then is not. `unroutable` and
    `refused` are places in `packets`; hardly a batch has any, so none begins with a set.
    """

    packets: Sequence[Packet]
    done: asyncio.Future[None]
    until_s: float
    sent: int = 0
    unroutable: set[int] | None = None
    refused: set[int] | None = None


class Piece(msgspec.Struct, eq=False, gc=False):
    """Packets that were written together: numbers `first` to `last` of the channel.

    No collection looks at it: whoever has it in flight lets go of it when it is confirmed or
    lost. Only a publisher that is abandoned without a stop is never collected for that.
    """

    batch: Batch
    first: int
    last: int
    begin: int
    size: int
    ends: bool


def noted(places: set[int] | None, more: Iterable[int]) -> set[int]:
    """Return places with more of them; the set is made with the first."""
    places = set() if places is None else places
    places.update(more)
    return places


def finish(batch: Batch) -> None:
    """End a batch that was confirmed whole: as stored, or with what was said against some."""
    unroutable, refused = batch.unroutable or set(), batch.refused or set()
    which = frozenset(unroutable | refused)
    if not which:
        batch.done.set_result(None)
    elif unroutable:
        missing = {batch.packets[at].queue for at in unroutable}
        fail(batch, Unroutable(
            f"There is no queue {', '.join(sorted(missing))} on the broker; "
            f"{len(which)} of {len(batch.packets)} messages were not stored.",
            fix=remedy_for(missing),
            which=which,
        ))  # fmt: skip
    else:
        full = {batch.packets[at].queue for at in refused}
        fail(batch, QueueFull(
            f"Queue {', '.join(sorted(full))} is full: the broker refused {len(which)} of "
            f"{len(batch.packets)} messages.",
            which=which,
        ))  # fmt: skip


def fail(batch: Batch, error: RolekitError) -> None:
    """End a batch with an error, unless it ended already or its caller has gone."""
    if not batch.done.done():
        batch.done.set_exception(error)
        with suppress(BaseException):
            batch.done.exception()
