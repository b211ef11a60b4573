"""Queues on a real broker, as somebody else made them, and what is in them."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aio_pika
from aio_pika.abc import DeliveryMode

from rolekit.transport.rabbitmq.address import parse_address
from rolekit.transport.rabbitmq.migrate import Applied, apply
from rolekit.transport.rabbitmq.session import Session
from rolekit.transport.rabbitmq.topology import Names

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from aio_pika.abc import AbstractChannel
    from pamqp.common import FieldTable

    from rolekit.transport.rabbitmq.detour import Binding

NAMES = Names("shop")
WORK = NAMES.queue("Work.work")
DEAD = NAMES.queue("~dead")
LOCK = NAMES.of("~topology")
IDS = [f"{number:04}" for number in range(250)]
"""Of messages that wait in a queue."""
PAUSE_S = 0.002
"""Of a publisher: a little slower than a mover on a busy machine."""
WATCH_S = 0.25
"""Long enough to see such a publisher."""


@asynccontextmanager
async def session_to(url: str) -> AsyncGenerator[Session]:
    """Open one connection, which does not come back by itself."""
    session = Session()
    try:
        await session.open(parse_address(url).urls[0], "test")
        yield session
    finally:
        await session.close()


async def made_anew(url: str, bindings: Sequence[Binding] = ()) -> list[Applied]:
    """Bring `WORK` to what is wanted, as `rolekit topology apply` does."""
    async with session_to(url) as session:
        return await apply(session, [WORK], lock=LOCK, bindings=bindings, watch_s=WATCH_S)


@asynccontextmanager
async def channel_to(url: str) -> AsyncGenerator[AbstractChannel]:
    """Open a channel of another program."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        yield channel


async def fill(url: str, name: str, ids: Sequence[str], **arguments: object) -> None:
    """Make a queue with these arguments, and put a message for each id into it."""
    table: FieldTable = {f"x-{k.replace('_', '-')}": v for k, v in arguments.items()}  # type: ignore[misc]
    async with channel_to(url) as channel:
        await channel.declare_queue(name, durable=True, arguments=table)
        for id_ in ids:
            await put(channel, name, id_)


async def put(channel: AbstractChannel, name: str, id_: str) -> bool:
    """Publish one; say whether it was stored."""
    answer = await channel.default_exchange.publish(message_of(id_), name, mandatory=True)
    return not hasattr(answer, "header")


@asynccontextmanager
async def published_to(
    url: str, exchange: str, keys: Sequence[str], *, at_once: int = 1
) -> AsyncGenerator[list[str]]:
    """Let another program publish all the while, without asking whether anybody takes it.

    Args:
        url: Of the broker.
        exchange: Its name; "" is the default one, whose keys are names of queues.
        keys: Taken in turn.
        at_once: So many are on their way together.

    Yields:
        The ids that the broker confirmed.
    """
    confirmed: list[str] = []
    numbers = itertools.count()
    is_over = asyncio.Event()

    async def publish() -> None:
        async with channel_to(url) as channel:
            to = await channel.get_exchange(exchange) if exchange else channel.default_exchange
            while not is_over.is_set():
                number = next(numbers)
                id_ = f"new {number:06}"
                await to.publish(message_of(id_), keys[number % len(keys)], mandatory=False)
                confirmed.append(id_)
                await asyncio.sleep(PAUSE_S if at_once == 1 else 0)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(publish())
        try:
            yield confirmed
        finally:
            is_over.set()


def message_of(id_: str) -> aio_pika.Message:
    """Build a message as another program has it."""
    return aio_pika.Message(
        f"body of {id_}".encode(),
        message_id=id_,
        headers={"of": id_},
        delivery_mode=DeliveryMode.PERSISTENT,
    )


async def ids_in(url: str, name: str) -> list[str]:
    """Take everything out of a queue; return the ids in their order."""
    found: list[str] = []
    async with channel_to(url) as channel:
        queue = await channel.get_queue(name)
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            if not message.body.endswith(b"new"):
                assert message.body == f"body of {message.message_id}".encode()
                assert message.headers["of"] == message.message_id
            found.append(str(message.message_id))
    return found
