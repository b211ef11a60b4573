"""What a user may not do on the broker is said at the start, with the grant that lacks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aio_pika
import pytest

from rolekit.errors import ConfigError
from rolekit.transport.rabbitmq import RabbitTransport
from tests.integration.rabbit_queues import WORK, channel_to, fill, ids_in

if TYPE_CHECKING:
    from rolekit.testing.broker import PrivateBroker

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(40)]

QUEUES = ["Work.work", "~dead"]
OWN = r"^shop\."
PUBLISH = r"^(shop\..*|amq\.default)$"
PASSWORD = "s3cret-of-joe"  # noqa: S105 - of a test


@dataclass(frozen=True, slots=True)
class Joe:
    """A user of one virtual host, who may do what he was granted."""

    name: str
    vhost: str
    broker: PrivateBroker

    @property
    def url(self) -> str:
        return f"amqp://{self.name}:{PASSWORD}@127.0.0.1:{self.broker.port}/{self.vhost}"

    async def may(self, configure: str, write: str, read: str) -> None:
        grant = self.broker.set_permissions
        await asyncio.to_thread(grant, self.vhost, self.name, configure, write, read)


@pytest.fixture
def joe(rolekit_broker_server: PrivateBroker, broker_url: str) -> Joe:
    vhost = broker_url.rpartition("/")[2]
    joe = Joe(f"joe-{vhost}", vhost, rolekit_broker_server)
    rolekit_broker_server.add_user(joe.name, PASSWORD)
    return joe


async def start(url: str) -> None:
    """Do what every start does."""
    transport = RabbitTransport(url, app="shop")
    try:
        await transport.start()
        await transport.declare(QUEUES)
        await transport.check(QUEUES)
    finally:
        await transport.stop()


def _message() -> aio_pika.Message:
    return aio_pika.Message(b"")


@pytest.mark.parametrize(
    ("rights", "right", "what"),
    [
        (("^$", PUBLISH, OWN), "configure", "declare queue shop.Work.work"),
        ((OWN, r"^shop\.", OWN), "write", "publish, which needs exchange amq.default"),
        ((OWN, PUBLISH, "^nothing$"), "configure", "declare queue shop.Work.work"),
    ],
)
async def test_a_right_that_lacks_is_named_with_the_command_that_grants_it(
    rights: tuple[str, str, str], right: str, what: str, joe: Joe
) -> None:
    await joe.may(*rights)

    with pytest.raises(ConfigError) as caught:
        await start(joe.url)

    assert f"User {joe.name} may not {what}" in caught.value.what
    assert f"no {right} permission" in caught.value.what
    assert PASSWORD not in str(caught.value)
    assert caught.value.fix == (
        f"Grant it: rabbitmqctl set_permissions -p {joe.vhost} {joe.name} "
        r"'^shop\.' '^(shop\..*|amq\.default)$' '^shop\.'"
    )


async def test_who_may_not_publish_to_queues_that_are_there_is_told_so(
    broker_url: str, joe: Joe
) -> None:
    await start(broker_url)
    await joe.may("^$", "^nothing$", OWN)

    with pytest.raises(ConfigError, match="may not publish, which needs exchange amq"):
        await start(joe.url)


async def test_who_may_not_read_is_told_so_and_no_message_is_touched(
    broker_url: str, joe: Joe
) -> None:
    await start(broker_url)
    async with channel_to(broker_url) as channel:
        await channel.default_exchange.publish(_message(), WORK.name)
    await joe.may("^$", PUBLISH, "^nothing$")

    with pytest.raises(ConfigError, match="may not consume from queue shop"):
        await start(joe.url)

    async with channel_to(broker_url) as channel:
        message = await (await channel.get_queue(WORK.name)).get(no_ack=True)
    assert message.redelivered is False


async def test_the_granted_rights_are_enough_and_the_look_takes_no_message(
    broker_url: str, joe: Joe
) -> None:
    await joe.may(OWN, PUBLISH, OWN)

    await start(joe.url)
    async with channel_to(broker_url) as channel:
        await channel.default_exchange.publish(_message(), WORK.name)
    await start(joe.url)

    async with channel_to(broker_url) as channel:
        message = await (await channel.get_queue(WORK.name)).get(no_ack=True)
    assert message.redelivered is False


async def test_who_may_only_work_needs_no_right_to_declare_what_is_there(
    broker_url: str, joe: Joe
) -> None:
    await start(broker_url)
    await joe.may("^$", PUBLISH, OWN)

    await start(joe.url)


async def test_beside_an_unfinished_migration_nothing_starts(broker_url: str) -> None:
    await start(broker_url)
    await fill(broker_url, "shop.Work.work@migrating", ["a", "b"])

    with pytest.raises(ConfigError, match=r"shop.Work.work is not finished") as caught:
        await start(broker_url)

    assert "rolekit topology apply" in caught.value.fix
    assert await ids_in(broker_url, "shop.Work.work@migrating") == ["a", "b"]
