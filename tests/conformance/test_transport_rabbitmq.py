"""The suite of transports on RabbitMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.transport.base import INBOUND
from rolekit.transport.rabbitmq import RabbitTransport
from tests.conformance import transport as suite
from tests.conformance import transport_epochs as epochs
from tests.conformance import transport_outside as outside
from tests.conformance import transport_settling as settling

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.transport.base import Transport
    from rolekit.transport.rabbitmq.topology import QueueType

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(40)]


class RabbitGround:
    """Connections to one vhost."""

    def __init__(self, url: str, queue_type: QueueType, *, is_plain: bool) -> None:
        self._url = url
        self._is_plain = is_plain
        self._queue_type: QueueType = queue_type
        self._opened: list[RabbitTransport] = []

    def unconnected(self, app: str = "c") -> RabbitTransport:
        transport = RabbitTransport(
            self._url, app=app, queue_type=self._queue_type, is_plain=self._is_plain
        )
        self._opened.append(transport)
        return transport

    async def connect(self) -> RabbitTransport:
        transport = self.unconnected()
        await transport.start()
        return transport

    async def other(self) -> tuple[RabbitTransport, str, str]:
        transport = self.unconnected("other")
        await transport.start()
        return transport, "other", INBOUND

    async def die(self, transport: Transport) -> None:
        assert isinstance(transport, RabbitTransport)
        await transport.abort()

    async def stop(self) -> None:
        for transport in self._opened:
            await transport.stop()


@pytest.fixture(params=["quorum", "classic", "classic-plain"])
async def ground(
    broker_url: str, request: pytest.FixtureRequest
) -> AsyncGenerator[RabbitGround]:
    queue_type, _, plain = request.param.partition("-")
    ground = RabbitGround(broker_url, queue_type, is_plain=bool(plain))
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


@pytest.fixture
def two_apps(ground: RabbitGround) -> RabbitGround:
    return ground


class TestHandingOver(outside.HandingOver):
    """See `tests.conformance.transport_outside`."""
