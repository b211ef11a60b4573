"""Fills a queue with copies of the one message that stands in it.

So every peer finds messages exactly as its own client writes them, without waiting for a
client that sends a thousand a second. Ids and numbers differ from copy to copy.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import aiormq
from aiormq.abc import ChannelFrame
from pamqp import body, frame, header
from pamqp.commands import Basic

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_NUMBER = 10**9
"""Numbers of messages begin here, so that all have as many digits."""

CHUNK = 200
LOOK_S = 0.05


async def replicate(url: str, queue: str, count: int) -> None:
    """Take the only message of a queue out, and put `count` copies in."""
    connection = await aiormq.connect(url)
    channel = await connection.channel(publisher_confirms=False)
    got = await _only(channel, queue)
    chunk: list[bytes] = []
    for one in _copies(got, queue, channel.number, count):
        chunk.append(one)
        if len(chunk) == CHUNK:
            await _write(channel, chunk)
            chunk = []
    await _write(channel, chunk)
    while await depth(channel, queue) < count:  # noqa: ASYNC110 - the broker tells nobody
        await asyncio.sleep(LOOK_S)
    await connection.close()


async def depth(channel: aiormq.abc.AbstractChannel, queue: str) -> int:
    """Say how many messages wait in a queue."""
    declared = await channel.queue_declare(queue, passive=True)
    return int(declared.message_count or 0)


async def _only(channel: aiormq.abc.AbstractChannel, queue: str) -> aiormq.abc.DeliveredMessage:
    while True:
        got = await channel.basic_get(queue, no_ack=True)
        if isinstance(got.delivery, Basic.GetOk):
            return got
        await asyncio.sleep(LOOK_S)


def _copies(
    got: aiormq.abc.DeliveredMessage, queue: str, number: int, count: int
) -> Iterator[bytes]:
    properties = got.header.properties
    publish = Basic.Publish(exchange="", routing_key=queue)
    whole = b"".join(
        frame.marshal(part, number)
        for part in (
            publish,
            header.ContentHeader(body_size=len(got.body), properties=properties),
            body.ContentBody(got.body),
        )
    )
    ids = {one for one in (properties.message_id, properties.correlation_id) if one}
    for index in range(count):
        copy = whole.replace(b"%d" % FIRST_NUMBER, b"%d" % (FIRST_NUMBER + index))
        for one in ids:
            copy = copy.replace(one.encode(), _fresh(one).encode())
        yield copy


def _fresh(like: str) -> str:
    """Return a new id of the same form; anything that is no UUID stays as it is."""
    try:
        uuid.UUID(like)
    except ValueError:
        return like
    fresh = uuid.uuid4()
    return str(fresh) if "-" in like else fresh.hex


async def _write(channel: aiormq.abc.AbstractChannel, chunk: list[bytes]) -> None:
    await channel.write_queue.put(ChannelFrame(payload=b"".join(chunk), should_close=False))
