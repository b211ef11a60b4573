"""A load test disturbs a broker of its own, through whoever started that."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aio_pika
import pytest

from rolekit.errors import Unavailable
from rolekit.load.own_broker import VARIABLE, OwnBroker, offered
from rolekit.testing.broker import PrivateBroker
from tests.patience import patient

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


def test_connections_are_closed_and_it_is_another_process_after_a_restart() -> None:
    with PrivateBroker() as broker, offered(broker) as offer:
        own = OwnBroker.of(offer)
        assert own is not None
        before = broker.pid

        async def disturb() -> tuple[int, bool]:
            connection = await aio_pika.connect(broker.url())
            closed = asyncio.Event()

            def heard(*_: object) -> None:
                closed.set()

            connection.close_callbacks.add(heard)
            count = await own.cut()
            async with asyncio.timeout(patient(10)):
                await closed.wait()
            await own.restart()
            async with await aio_pika.connect(broker.url()) as again:
                return count, not again.is_closed

        assert asyncio.run(disturb()) == (1, True)
        assert broker.pid not in {None, before}


class Broken:
    """Cannot be restarted."""

    def close_all_connections(self) -> int:
        return 7

    def restart(self) -> None:
        raise Unavailable("The node did not start.")


def test_what_went_wrong_is_said() -> None:
    with offered(Broken()) as offer:
        own = OwnBroker.of(offer)
        assert own is not None
        assert asyncio.run(own.cut()) == 7
        with pytest.raises(Unavailable, match="could not be disturbed: The node did not start"):
            asyncio.run(own.restart())

    with pytest.raises(Unavailable, match="does not answer"):
        asyncio.run(own.cut())
    assert not Path(offer[VARIABLE]).parent.exists()
    assert OwnBroker.of({}) is None
