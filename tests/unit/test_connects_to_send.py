"""Who takes requests connects for sending before the first of them comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import Unavailable
from rolekit.roles.host import Instance, bound_socket
from rolekit.transport.memory import MemoryTransport
from tests.unit.fakes_flow import SOON_S, services_of
from tests.unit.shop import Front, Work, shop

if TYPE_CHECKING:
    from rolekit.roles.base import Role

pytestmark = pytest.mark.anyio


class Noting(MemoryTransport):
    """Notes when it is connected for sending, among the rest; may be refused."""

    def __init__(self, *, is_away: bool = False) -> None:
        super().__init__()
        self.is_away = is_away
        self.noted: list[str] = []

    async def connect_to_send(self) -> None:
        self.noted.append("connects")
        if self.is_away:
            raise Unavailable("Nobody answers.")


async def lived(role: type[Role], transport: Noting) -> list[str]:
    """Run an instance until it is ready; return what happened, in order."""
    services = services_of(shop.plan(), transport=transport)
    with bound_socket("127.0.0.1:0") as listening:
        instance = Instance(role, services, listening=listening)

        def ready() -> None:
            transport.noted.append("ready")
            instance.stop(0)

        async with services.running(), asyncio.timeout(SOON_S):
            await instance.run(ready)
    return transport.noted


async def test_a_front_has_connected_when_it_is_ready() -> None:
    assert await lived(Front, Noting()) == ["connects", "ready"]


async def test_a_front_is_ready_though_nobody_answers() -> None:
    assert await lived(Front, Noting(is_away=True)) == ["connects", "ready"]


async def test_a_worker_connects_when_it_has_something_to_send() -> None:
    assert await lived(Work, Noting()) == ["ready"]
