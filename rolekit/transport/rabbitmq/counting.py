"""What stands in queues, asked now and then, or again and again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiormq

from rolekit.transport.rabbitmq.session import lost_not_cancelled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.transport.rabbitmq.session import Channel, Session


@dataclass(frozen=True, slots=True)
class Counts:
    """What a passive declaration tells."""

    messages: int = 0
    consumers: int = 0


NOTHING = Counts()
"""Of an empty queue that nobody consumes."""


async def count(session: Session, name: str) -> Counts | None:
    """Say how many messages wait in a queue, and for how many; None: it is not there.

    It is asked on a channel of its own.
    """
    async with session.brief_channel() as channel:
        try:
            answer = await channel.calls.queue_declare(name, passive=True)
        except aiormq.exceptions.ChannelNotFoundEntity:
            return None
        return Counts(answer.message_count or 0, answer.consumer_count or 0)


class Counting:
    """Counts again and again, on a channel that is kept.

    To open one costs client and broker several times what a question does, and who lets
    messages in asks every second.
    """

    def __init__(self) -> None:
        self._channel: Channel | None = None
        # A queue that is gone closes the channel, and with it whatever is asked meanwhile.
        self._asking = asyncio.Lock()

    async def count(self, session: Session, names: Iterable[str]) -> dict[str, Counts]:
        """Say what is in queues; those that are not there are left out.

        Args:
            session: Where to open a channel, if there is none any more.
            names: Of queues on the broker.
        """
        found: dict[str, Counts] = {}
        async with self._asking:
            for name in names:
                channel = self._channel
                if channel is None or channel.lost.done():
                    channel = self._channel = await session.channel()
                try:
                    with lost_not_cancelled():
                        answer = await channel.calls.queue_declare(name, passive=True)
                except aiormq.exceptions.ChannelNotFoundEntity:
                    self._channel = None  # the broker has closed it
                    continue
                except BaseException:
                    # What comes yet would be taken for the answer to the next question.
                    self._channel = None
                    await asyncio.shield(channel.close())
                    raise
                found[name] = Counts(answer.message_count or 0, answer.consumer_count or 0)
        return found
