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


ANSWER_S = 20.0
NOTHING = Counts()
"""Of an empty queue that nobody consumes."""


async def count(session: Session, name: str) -> Counts | None:
    """Say how many messages wait in a queue, and for how many; None: it is not there.

    It is asked on a channel of its own.
    """
    async with session.brief_channel() as channel:
        return await _ask(channel, name)


async def _ask(channel: Channel, name: str) -> Counts | None:
    """Ask on a channel, which the broker closes if the queue is not there."""
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
        self._kept: list[Channel] = []

    async def count(self, session: Session, names: Iterable[str]) -> dict[str, Counts]:
        """Say what is in queues; those that are not there are left out.

        Who asks while another one does has a channel of its own: a queue that is gone closes
        the channel, and one that does not answer keeps it.

        Args:
            session: Where to open a channel, if there is none.
            names: Of queues on the broker.

        Raises:
            TimeoutError: There was no answer within 20 s.
        """
        found: dict[str, Counts] = {}
        channel = self._kept.pop() if self._kept else None  # nobody else asks on it now
        try:
            for name in names:
                if channel is None or channel.lost.done():
                    channel = await session.channel()
                async with asyncio.timeout(ANSWER_S):
                    with lost_not_cancelled():
                        counts = await _ask(channel, name)
                if counts is None:
                    channel = None
                else:
                    found[name] = counts
        except BaseException:
            # What comes yet would be taken for the answer to the next question.
            await _close(channel)
            raise
        if channel is not None and not self._kept:
            self._kept.append(channel)
        else:
            await _close(channel)
        return found


async def _close(channel: Channel | None) -> None:
    if channel is not None:
        await asyncio.shield(channel.close())
