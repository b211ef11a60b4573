"""Which queues an app has on the broker, as data; and making them.

A handler's queue is durable, replicated where the broker is a cluster, and never drops
anything: its length is unlimited, and what was delivered too often goes to the app's own
dead-letter queue, which rolekit consumes into its dead letters.

Source: RELIABILITY H9, H10; PITFALLS 1.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import aiormq

from rolekit.errors import ConfigError
from rolekit.transport.base import DEAD_QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rolekit.transport.rabbitmq.session import Session

QueueType = Literal["quorum", "classic"]

DELIVERY_LIMIT = 100
"""Deliveries before the broker gives a message up: a backstop, since rolekit counts itself."""
REPLY_EXPIRES_MS = 120_000
"""A reply queue that nobody consumes goes away: its asker is gone."""
REPLY = "~reply."
_ALLOWED = re.compile(r"[A-Za-z0-9_.:@#,/><-]{1,255}")


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as it should be on the broker."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])


class Names:
    """What an app's queues are called on the broker.

    Args:
        app: Name of the app.
        queue_type: Of handlers' queues.
    """

    def __init__(self, app: str, queue_type: QueueType = "quorum") -> None:
        self._prefix = f"{app}."
        self.queue_type: QueueType = queue_type

    def of(self, queue: str) -> str:
        """Return the broker's name of a queue.

        Raises:
            ConfigError: A handler is called what no queue can be called.
        """
        name = self._prefix + queue.replace("~", "@", 1)
        if not _ALLOWED.fullmatch(name):
            raise ConfigError(
                f"Queue {name!r} cannot be made on RabbitMQ: up to 255 letters, digits and "
                "-_.:@#,/>< are expected.",
                fix='Give the handler another name: @handle(name="...").',
            )
        return name

    def back(self, broker_name: str) -> str:
        """Return the queue of a broker's name, or nothing where it is not the app's."""
        name = broker_name.removeprefix(self._prefix)
        return (
            ""
            if name == broker_name
            else name.replace("@", "~", 1)
            if name[:1] == "@"
            else name
        )

    def queue(self, name: str) -> Queue:
        """Say how a queue should be."""
        if name.startswith(REPLY):
            arguments: dict[str, object] = {
                "x-queue-type": "classic",
                "x-expires": REPLY_EXPIRES_MS,
            }
            return Queue(self.of(name), arguments)
        if self.queue_type == "classic":
            return Queue(self.of(name), {"x-queue-type": "classic"})
        if name == DEAD_QUEUE:
            return Queue(self.of(name), {"x-queue-type": "quorum"})
        arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.of(DEAD_QUEUE),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        return Queue(self.of(name), arguments)


async def declare(session: Session, queues: Iterable[Queue]) -> None:
    """Make queues that are not there.

    Raises:
        ConfigError: One is there with other arguments; says the difference.
    """
    async with session.brief_channel() as channel:
        for queue in queues:
            try:
                await channel.calls.queue_declare(
                    queue.name,
                    durable=True,
                    arguments=dict(queue.arguments),  # type: ignore[arg-type]
                )
            except aiormq.exceptions.ChannelPreconditionFailed as error:
                raise ConfigError(
                    f"Queue {queue.name} is on the broker with other arguments: "
                    f"{difference(str(error))}.",
                    fix="`rolekit topology plan` shows all differences, and `rolekit topology "
                    "apply` migrates them without losing a message.",
                ) from error


def difference(said: str) -> str:
    """Shorten what the broker says of an argument that differs to what a person reads."""
    found = re.search(
        r"inequivalent arg '([^']+)' for queue .*?received (.*?) but current is (.*?)['\")]*$",
        said,
    )
    if found is None:
        return said
    name, wanted, there = found.groups()
    return f"{name} is {there}, {wanted} is wanted"


async def counts(session: Session, names: Iterable[str]) -> dict[str, int]:
    """Say how many messages wait in queues; those that are not there are left out."""
    found: dict[str, int] = {}
    left = list(names)
    while left:
        async with session.brief_channel() as channel:
            while left:
                name = left.pop()
                try:
                    answer = await channel.calls.queue_declare(name, passive=True)
                except aiormq.exceptions.ChannelNotFoundEntity:
                    break  # which closes the channel
                found[name] = answer.message_count or 0
    return found
