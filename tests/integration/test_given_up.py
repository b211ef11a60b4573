"""What RabbitMQ gives up by itself becomes a dead letter that can be replayed."""

from __future__ import annotations

import asyncio

import pytest

from rolekit import App, Message, WorkerRole, handle, wiring
from rolekit.flow.given_up import GivenUp
from rolekit.link import OWNER_BITS
from rolekit.store.letters import Letters
from rolekit.transport.rabbitmq import topology
from rolekit.wiring.parts import build
from tests.patience import patient

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(40)]


class Hot(Message):
    """Nobody can hold it."""

    n: int


class Hands(WorkerRole):
    """Lets everything fall."""

    @handle
    async def hold(self, hot: Hot) -> None:
        """Never called: the test consumes the queue itself."""


async def test_what_was_delivered_too_often_is_a_dead_letter_of_its_handler(
    broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "DELIVERY_LIMIT", 2)
    app = App("hot", roles=[Hands])
    plan = app.plan()
    handlers = list(plan.handlers)
    await wiring.migrate(app.name, database_url, broker_url, handlers)
    async with wiring.open_host(app.name, database_url, broker_url, handlers) as host:
        services = build(plan, host.epoch << OWNER_BITS | 1, database_url, broker_url).services
        runtime = services.runtime
        async with services.running():
            giving_up = asyncio.create_task(GivenUp(runtime, services.committer).run())
            subscription = await runtime.transport.subscribe(
                handlers,
                window=1,
                sink=lambda batch: subscription.hand_back(batch),  # noqa: PLW0108 - made here
            )

            sent = await services.client.send(Hot(n=1))
            async with asyncio.timeout(patient(20)):
                while not (  # noqa: ASYNC110 - another process would tell
                    dead := await runtime.store.dead_letters(
                    Letters(handler="Hands.hold"), limit=10
                )):  # fmt: skip
                    await asyncio.sleep(0.05)

            giving_up.cancel()
            await asyncio.gather(giving_up, return_exceptions=True)
            await subscription.close()
    assert [(d.packet.id, d.packet.queue, d.type) for d in dead] == [
        (sent.id, "Hands.hold", "Hot")
    ]
    assert "gave it up" in dead[0].reason
    assert dead[0].packet.body == b'{"n":1}'
