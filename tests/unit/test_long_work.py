"""What waits for work that is not long, and a broker that does not take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from rolekit.errors import QueueFull, RolekitError, Unavailable
from rolekit.model.envelope import Packet
from rolekit.transport.base import Features
from rolekit.transport.long_work import LongWorkTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.transport.base import Transport
    from rolekit.transport.postgres import PostgresTransport

pytestmark = pytest.mark.anyio


class Table:
    """Stands for the claims: rows 11, 12, 13, which nobody holds."""

    def __init__(self) -> None:
        self.rows = {
            n: Packet(queue="q", id=f"{n:032x}", generation=0, head=b"", body=b"")
            for n in (11, 12, 13)
        }

    async def recover(self) -> None:
        pass

    async def waiting(self, queues: Sequence[str], limit: int) -> dict[int, Packet]:
        return dict(list(self.rows.items())[:limit]) if "q" in queues else {}

    async def forget(self, numbers: Sequence[int]) -> None:
        for n in numbers:
            del self.rows[n]


class Broker:
    """Stands for a broker that takes nothing, or not all."""

    features = Features()

    def __init__(self, error: RolekitError | None) -> None:
        self.error = error
        self.published: list[int] = []

    async def recover(self) -> None:
        pass

    async def publish(self, packets: Sequence[Packet]) -> None:
        self.published += [int(packet.id, 16) for packet in packets]
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (None, []),
        (Unavailable("Away."), [11, 12, 13]),
        (QueueFull("Full.", which=frozenset({1})), [12]),
    ],
    ids=["takes all", "is away", "is full for one"],
)
async def test_what_is_not_taken_back_waits_and_stops_nobody(
    error: RolekitError | None, left: list[int]
) -> None:
    table, broker = Table(), Broker(error)
    transport = LongWorkTransport(
        cast("Transport", broker),
        cast("PostgresTransport", table),
        long=frozenset[str](),
        queues=["q"],
    )

    await transport.recover()

    assert broker.published == [11, 12, 13]
    assert list(table.rows) == left
