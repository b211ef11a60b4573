"""The private broker: what tests of the RabbitMQ transport stand on."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aio_pika
import pytest
from aio_pika.abc import DeliveryMode
from aio_pika.exceptions import ChannelClosed

from rolekit.errors import ConfigError, Unavailable
from rolekit.testing import erlang
from rolekit.testing.broker import PrivateBroker
from tests.patience import patient
from tests.servers import nothing_starts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
    from pamqp.common import FieldTable

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]

QUORUM: FieldTable = {"x-queue-type": "quorum"}
END_S = patient(15.0)


@pytest.fixture
def broker(rolekit_broker_server: PrivateBroker) -> PrivateBroker:
    return rolekit_broker_server


@pytest.fixture
def vhost(broker_url: str) -> str:
    return broker_url


@pytest.fixture
def other_vhost(broker: PrivateBroker) -> Iterator[str]:
    with broker.vhost() as url:
        yield url


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


async def fill(channel: AbstractChannel, queue: str, count: int) -> None:
    for i in range(count):
        message = aio_pika.Message(b"%d" % i, delivery_mode=DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue)


async def bodies(queue: AbstractQueue, count: int) -> list[bytes]:
    return [(await queue.get(timeout=5)).body for _ in range(count)]


async def test_two_vhosts_share_nothing(
    broker: PrivateBroker, vhost: str, other_vhost: str
) -> None:
    async with await aio_pika.connect(vhost) as connection:
        await (await connection.channel()).declare_queue("q")

        queues = await asyncio.to_thread(broker.list_queues, name_of(vhost))
        others = await asyncio.to_thread(broker.list_queues, name_of(other_vhost))

    assert [queue.name for queue in queues] == ["q"]
    assert others == []


async def test_a_queue_is_listed_with_what_waits_and_what_a_consumer_has(
    broker: PrivateBroker, vhost: str
) -> None:
    taken = asyncio.Queue[bytes]()

    async def take(message: AbstractIncomingMessage) -> None:
        await taken.put(message.body)

    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=2)
        queue = await channel.declare_queue("q", durable=True, arguments={"x-max-length": 9})
        await fill(channel, "q", 5)
        await queue.consume(take)
        await taken.get()
        await taken.get()

        (state,) = await asyncio.to_thread(broker.list_queues, name_of(vhost))

    assert (state.name, state.type, state.arguments) == ("q", "classic", {"x-max-length": 9})
    assert (state.ready, state.unacked, state.consumers) == (3, 2, 1)


async def test_a_quorum_queue_keeps_its_messages_through_a_kill_and_a_start(
    private_broker: PrivateBroker,
) -> None:
    url = private_broker.url()
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("q", durable=True, arguments=QUORUM)
        await fill(channel, "q", 20)
        await asyncio.to_thread(private_broker.sync_queues)
        killed = private_broker.pid

        await asyncio.to_thread(private_broker.kill9)
        is_running = private_broker.pid is not None
        await asyncio.to_thread(private_broker.start)

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("q", durable=True, arguments=QUORUM)
        found = await bodies(queue, 20)
    assert not is_running
    assert private_broker.pid not in {None, killed}
    assert found == [b"%d" % i for i in range(20)]


@pytest.mark.parametrize("source", ["disk", "memory"])
async def test_an_alarm_holds_publishing_until_it_is_gone(
    broker: PrivateBroker, vhost: str, source: str
) -> None:
    switch = broker.set_disk_alarm if source == "disk" else broker.set_memory_alarm
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("q")
        await asyncio.to_thread(switch, is_on=True)

        try:
            held = asyncio.create_task(fill(channel, "q", 1))
            finished, _ = await asyncio.wait([held], timeout=0.3)
        finally:
            await asyncio.to_thread(switch, is_on=False)
        await asyncio.wait_for(held, END_S)

        assert not finished
        assert await bodies(queue, 1) == [b"0"]


async def test_closing_all_connections_is_heard_with_its_reason(
    broker: PrivateBroker, vhost: str
) -> None:
    heard = asyncio.Queue[BaseException | None]()
    connection = await aio_pika.connect(vhost)
    connection.close_callbacks.add(lambda _, why: heard.put_nowait(why))

    count = await asyncio.to_thread(broker.close_all_connections, "for a test")

    assert count == 1
    assert "for a test" in str(await asyncio.wait_for(heard.get(), END_S))
    await connection.close()


async def test_a_deleted_queue_is_gone_while_it_is_in_use(
    broker: PrivateBroker, vhost: str
) -> None:
    async def take(message: AbstractIncomingMessage) -> None:
        await message.ack()

    async with await aio_pika.connect(vhost) as connection:
        queue = await (await connection.channel()).declare_queue("q", durable=True)
        await queue.consume(take)

        await asyncio.to_thread(broker.delete_queue, "q", name_of(vhost))

        assert await asyncio.to_thread(broker.list_queues, name_of(vhost)) == []


async def test_a_user_may_do_what_permissions_say_and_no_more(
    broker: PrivateBroker, vhost: str
) -> None:
    await asyncio.to_thread(broker.add_user, "reader", "secret")
    set_permissions = broker.set_permissions
    await asyncio.to_thread(set_permissions, name_of(vhost), "reader", "^$", "^$", ".*")
    url = f"amqp://reader:secret@127.0.0.1:{broker.port}/{name_of(vhost)}"

    async with await aio_pika.connect(url) as connection:
        with pytest.raises(ChannelClosed, match="ACCESS_REFUSED"):
            await (await connection.channel()).declare_queue("q")


async def test_the_broker_s_own_commands_work(broker: PrivateBroker) -> None:
    said = await asyncio.to_thread(broker.ctl, "list_vhosts", "name")

    assert "/" in said.split()
    with pytest.raises(Unavailable, match="no_such_command"):
        await asyncio.to_thread(broker.ctl, "no_such_command")


def test_a_broker_that_cannot_start_says_why() -> None:
    with pytest.raises(Unavailable, match="failed_to_prepare_configuration"):  # noqa: SIM117 (the start is what raises)
        with PrivateBroker({"no.such.setting": "1"}):
            pass


ABANDONS = """
import os, sys
from rolekit.testing.broker import PrivateBroker
broker = PrivateBroker()
broker.start()
print(broker.pid, broker._base, flush=True)
sys.stdin.read()
os._exit(1)
"""


def test_a_broker_ends_with_its_owner_however_that_ends() -> None:
    command = [sys.executable, "-c", ABANDONS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as owner:
        assert owner.stdout is not None
        pid, base = owner.stdout.readline().split()
        node = os.pidfd_open(int(pid))

        owner.kill()
        owner.wait(END_S)

        ended, _, _ = select.select([node], [], [], END_S)
    os.close(node)
    assert ended
    assert not Path(base).exists()


def nowhere(program: str, path: str = "") -> None:
    """Find nothing, as on a machine without RabbitMQ."""


def test_a_machine_without_rabbitmq_is_told_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(erlang, "_PLACES", ())
    monkeypatch.setattr(shutil, "which", nowhere)

    with pytest.raises(ConfigError, match="apt-get install rabbitmq-server"):
        PrivateBroker()


def test_packages_start_nothing_while_they_are_installed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"

    with nothing_starts(policy):
        refused = subprocess.run([policy, "rabbitmq-server", "start"], check=False)

    assert refused.returncode == 101
    assert not policy.exists()


def test_an_administrator_s_policy_is_left_alone(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("mine")

    with nothing_starts(policy):
        pass

    assert policy.read_text() == "mine"


WITHOUT_RABBITMQ = """
from rolekit.errors import ConfigError
from rolekit.testing import broker

def find_nothing():
    raise ConfigError("RabbitMQ is not on this machine.", fix="Install it.")

broker.find_rabbitmq = find_nothing
"""


def test_a_test_that_asks_for_a_broker_fails_with_a_sentence_where_there_is_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "conftest.py").write_text(WITHOUT_RABBITMQ)
    (tmp_path / "test_it.py").write_text("def test_it(rolekit_broker): pass")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path],
        check=False,
        capture_output=True,
        cwd=tmp_path,
        text=True,
    )

    assert run.returncode == 1
    assert "RabbitMQ is not on this machine. Install it." in run.stdout
    assert "Traceback" not in run.stdout
    assert "skipped" not in run.stdout
