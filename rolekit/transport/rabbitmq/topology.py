"""Which queues an app has on the broker, as data; and making them.

A handler's queue is durable, replicated where the broker is a cluster, and never drops
anything: its length is unlimited, and what was delivered too often goes to the app's own
dead-letter queue, which rolekit consumes into its dead letters.

What RabbitMQ's releases do differently is met by saying everything: a delivery limit, since
4.0 assumes 20 where none is said, and drops what exceeds it; the type, since a vhost may have
a default; durable, since 4.3 refuses transient queues that are not exclusive. Limits without
end are a large number, since 3.x does not know -1.

Source: RELIABILITY H9, H10; PITFALLS 1.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

import aiormq

from rolekit.errors import ConfigError
from rolekit.model.keys import partition_in
from rolekit.transport.base import DEAD_QUEUE, INBOUND, OUTSIDE
from rolekit.transport.rabbitmq.access import refusal
from rolekit.transport.rabbitmq.counting import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pamqp.common import FieldTable

    from rolekit.transport.rabbitmq.session import Channel, Session

QueueType = Literal["quorum", "classic"]
Kind = Literal["handler", "dead", "reply", "source"]

DELIVERY_LIMIT = 100
"""Deliveries before the broker gives a message up: a backstop, since rolekit counts itself."""
NO_LIMIT = 2_000_000_000
"""Deliveries of a dead letter: as many as it takes, since there is no queue behind its own."""
REPLY_EXPIRES_MS = 120_000
"""A reply queue that nobody consumes goes away: its asker is gone."""
REPLY = "~reply."
_ALLOWED = re.compile(r"[A-Za-z0-9_.:@#,/><-]{1,255}")


MIGRATING = "@migrating"
"""Ends the name of the queue that holds a queue's messages while that is made anew."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as it should be on the broker, or as it is.

    Attributes:
        kind: What it is for.
    """

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])
    kind: Kind = "handler"
    durable: bool = True
    auto_delete: bool = False
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """How one argument of a queue on the broker differs.

    Attributes:
        there: Its value on the broker, as text; None: it is not set.
        wanted: What it should be; None: it should not be set.
        there_type: What AMQP calls the type of `there`; empty where the broker does not say.
    """

    argument: str
    there: str | None
    wanted: str | None
    there_type: str = ""

    def __str__(self) -> str:
        """Say it to a person."""
        unset = "not set (classic)" if self.argument == "x-queue-type" else "not set"
        there = unset if self.there is None else self.there or "''"
        wanted = "nothing" if self.wanted is None else self.wanted or "''"
        return f"{self.argument} is {there}, {wanted} is wanted"


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
        if queue.startswith(OUTSIDE):
            name = f"{queue.removeprefix(OUTSIDE)}.{INBOUND.replace('~', '@')}"
        else:
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
        if name == broker_name:
            return ""
        queue = name.replace("@", "~", 1)
        return queue if name[:1] == "@" or partition_in(queue) is not None else name

    def queue(self, name: str) -> Queue:
        """Say how a queue should be."""
        if name.startswith(REPLY):
            arguments: dict[str, object] = {
                "x-queue-type": "classic",
                "x-expires": REPLY_EXPIRES_MS,
            }
            return Queue(self.of(name), arguments, "reply")
        kind: Kind = "dead" if name == DEAD_QUEUE else "handler"
        # One consumer at a time, and what it had comes first: the order of a partition.
        alone = {"x-single-active-consumer": True} if partition_in(name) else {}
        if self.queue_type == "classic":
            return Queue(self.of(name), {"x-queue-type": "classic", **alone}, kind)
        if kind == "dead":
            limit = {"x-queue-type": "quorum", "x-delivery-limit": NO_LIMIT}
            return Queue(self.of(name), limit, kind)
        arguments = {
            "x-queue-type": "quorum",
            # A partition changes hands again and again, which is nobody's fault.
            "x-delivery-limit": NO_LIMIT if alone else DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.of(DEAD_QUEUE),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            **alone,
        }
        return Queue(self.of(name), arguments)


def remedy_for(missing: Iterable[str]) -> str:
    """Say what to do about queues that are not there."""
    other = next((name for name in missing if name.startswith(OUTSIDE)), None)
    if other is None:
        return "Start the role that takes it, or `rolekit migrate` after a rename."
    app = other.removeprefix(OUTSIDE)
    return f"Start the app {app} on this broker, or run `rolekit migrate` for it."


async def declare(session: Session, queues: Iterable[Queue]) -> None:
    """Make queues that are not there.

    Who may not declare makes do with those that are there, as their arguments may be.

    Raises:
        ConfigError: One is there with other arguments (says the difference), or missing, and
            this user may not declare it.
    """
    left = list(queues)
    while left:
        async with session.brief_channel() as channel:
            while left:
                queue = left.pop(0)
                try:
                    await declare_one(channel, queue)
                except aiormq.exceptions.ChannelPreconditionFailed as error:
                    raise await _refused(session, queue) from error
                except aiormq.exceptions.ChannelAccessRefused as error:
                    if await count(session, queue.name) is None:
                        raise refusal(error, "configure", queue.name) from error
                    break  # the channel is closed


async def _refused(session: Session, queue: Queue) -> ConfigError:
    from rolekit.transport.rabbitmq.plan import look  # noqa: PLC0415 - it builds on this

    first, *others = (await look(session, queue)).differences or ("something differs",)
    more = f" ({len(others)} more)" if others else ""
    return ConfigError(
        f"Queue {queue.name} is on the broker with other arguments: {first}{more}.",
        fix="`rolekit topology plan` shows all differences, and `rolekit topology apply` "
        "migrates them without losing a message.",
    )


async def declare_one(channel: Channel, queue: Queue) -> int:
    """Make a queue if it is not there; return how many messages wait in it.

    Raises:
        ChannelPreconditionFailed: It is there with other arguments; the channel is closed.
    """
    answer = await channel.calls.queue_declare(
        queue.name,
        durable=queue.durable,
        auto_delete=queue.auto_delete,
        exclusive=queue.exclusive,
        arguments=cast("FieldTable", dict(queue.arguments)),
    )
    return answer.message_count or 0


_INEQUIVALENT = re.compile(
    r"inequivalent arg '([^']+)' for queue '.*?' in vhost '.*?': "
    r"received (.+?) but current is (.+)",
    re.DOTALL,
)
_VALUE = re.compile(r"(?:the value )?'(.*?)'(?: of type '(\w+)')?", re.DOTALL)


def difference(said: str) -> Difference | None:
    """Read what the broker says of an argument that differs; None: it says something else.

    The broker cuts such a sentence at 255 bytes, so long names leave nothing to read.
    """
    found = _INEQUIVALENT.search(said)
    if found is None:
        return None
    name, wanted, there = found.groups()
    wanted_value, _ = _value(wanted)
    there_value, there_type = _value(there)
    return Difference(name, there_value, wanted_value, there_type)


def _value(said: str) -> tuple[str | None, str]:
    """Read a value as the broker words it, and its type where that is said."""
    found = _VALUE.match(said)
    return (None, "") if found is None else (found[1], found[2] or "")
