"""The suite of transports where all work is long: sent to RabbitMQ, claimed in Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.transport.long_work import LongWorkTransport
from rolekit.transport.rabbitmq import RabbitTransport
from tests.conformance import schemas
from tests.conformance import transport as suite
from tests.conformance import transport_epochs as epochs
from tests.conformance import transport_settling as settling
from tests.conformance.test_transport_postgres import Mortal, PostgresGround, standing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from rolekit.testing.plugin import DatabaseServer
    from rolekit.transport.base import Transport

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(40)]


class Every:
    """Every queue there is."""

    def __contains__(self, queue: object) -> bool:
        return True


class LongWorkGround:
    """Connections to one vhost and one database."""

    def __init__(self, broker_url: str, database: PostgresGround) -> None:
        self._broker_url = broker_url
        self._database = database
        self._opened: dict[LongWorkTransport, tuple[RabbitTransport, Mortal]] = {}

    def unconnected(self) -> LongWorkTransport:
        broker = RabbitTransport(self._broker_url, app="c")
        claims = self._database.unconnected()
        transport = LongWorkTransport(broker, claims, long=Every())
        self._opened[transport] = broker, claims
        return transport

    async def connect(self) -> LongWorkTransport:
        transport = self.unconnected()
        await transport.start()
        return transport

    async def die(self, transport: Transport) -> None:
        assert isinstance(transport, LongWorkTransport)
        broker, claims = self._opened[transport]
        await broker.abort()
        await self._database.die(claims)

    async def stop(self) -> None:
        for transport in self._opened:
            await transport.stop()


@pytest.fixture(scope="module")
def shared_url(rolekit_database_server: DatabaseServer) -> Iterator[str]:
    """One version is enough: claims have a suite of their own on both."""
    with rolekit_database_server.database() as url:
        yield url


@pytest.fixture
async def ground(broker_url: str, shared_url: str) -> AsyncGenerator[LongWorkGround]:
    async with schemas.lent(shared_url) as app, standing(shared_url, app) as database:
        ground = LongWorkGround(broker_url, database)
        try:
            yield ground
        finally:
            await ground.stop()


class TestPublishing(suite.Publishing):
    """See `tests.conformance.transport`."""


class TestConsuming(suite.Consuming):
    """See `tests.conformance.transport`."""


class TestSettling(settling.Settling):
    """See `tests.conformance.transport_settling`."""


class TestEpochs(epochs.Epochs):
    """See `tests.conformance.transport_epochs`."""


class TestDying(settling.Dying):
    """See `tests.conformance.transport_settling`."""
