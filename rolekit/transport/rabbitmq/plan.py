"""How the queues on the broker differ from those an app wants, asked by AMQP alone.

A passive declaration tells whether a queue is there. An active one tells the first argument
that differs, so it is repeated with what the broker told, until nothing differs any more.
Neither changes a queue. What the broker does not compare, it does not tell: arguments that
it does not know, and policies.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import aiormq

from rolekit.errors import ConfigError
from rolekit.transport.rabbitmq.access import may_declare
from rolekit.transport.rabbitmq.counting import NOTHING, Counts, count
from rolekit.transport.rabbitmq.lint import lint
from rolekit.transport.rabbitmq.topology import (
    MIGRATING,
    Difference,
    Queue,
    declare_one,
    difference,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.transport.rabbitmq.session import Session

State = Literal["there", "missing", "differs", "left over"]

NEVER = ("x-queue-leader-locator", "nobody")
"""An argument that no queue is made with: RabbitMQ refuses the value. It compares it last."""
ROUNDS = 24
"""Arguments of a queue that may differ: more than RabbitMQ compares."""
_FLAGS = frozenset({"durable", "auto_delete", "exclusive"})
_WHOLE_NUMBERS = frozenset({
    "byte", "short", "int", "long", "signedint", "unsignedbyte", "unsignedshort", "unsignedint",
    "timestamp",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be done about one queue.

    Attributes:
        queue: As it is wanted.
        state: Of the queue on the broker; "left over": it holds the messages of another
            one, whose migration was interrupted.
        there: As it is, as far as the broker tells; None: it is not there.
        counts: Its messages that wait, and its consumers.
    """

    queue: Queue
    state: State
    differences: tuple[Difference, ...] = ()
    there: Queue | None = None
    counts: Counts = NOTHING

    @property
    def dangers(self) -> list[str]:
        """How the queue that is there would lose messages without a word."""
        return lint(self.there) if self.there is not None else []

    @property
    def is_done(self) -> bool:
        """Whether nothing is to be done."""
        return self.state == "there"

    @property
    def action(self) -> str:
        """What `rolekit topology apply` would do."""
        messages = f"{self.counts.messages:,} message{'s' * (self.counts.messages != 1)}"
        if self.queue.kind == "source":
            return "nothing: its owner makes it" if self.state == "missing" else ""
        if self.state == "missing":
            return "make it"
        if self.state == "left over":
            return f"move {messages} back, delete it"
        if self.state == "differs":
            return f"make it anew, with its {messages}"
        return ""

    @property
    def is_classic(self) -> bool:
        """Whether the queue that is there is classic, and not quorum."""
        kind = None if self.there is None else self.there.arguments.get("x-queue-type")
        return kind in (None, "classic")


async def plan(session: Session, queues: Iterable[Queue]) -> list[Planned]:
    """Compare these queues with those on the broker; what is left over comes behind.

    Raises:
        ConfigError: This user may not declare one of them.
    """
    found: list[Planned] = []
    for queue in queues:
        found.append(await look(session, queue))
        left = await look_left(session, queue)
        found += [] if left is None else [left]
    return found


async def look(session: Session, queue: Queue) -> Planned:
    """Compare one queue with that on the broker."""
    counts = await count(session, queue.name)
    if counts is None:
        return Planned(queue, "missing")
    there, differences = await _compare(session, queue)
    differences.sort(key=lambda one: one.argument != "x-queue-type")  # what weighs most
    state: State = "differs" if differences else "there"
    return Planned(queue, state, tuple(differences), there, counts)


async def look_at_source(session: Session, name: str) -> Planned:
    """Look at a queue of another program, in a way that cannot make it.

    What it is like, only an active declaration tells; this one has an argument that RabbitMQ
    would refuse. So a queue whose owner deletes it just now stays deleted. Who may not
    declare is told only that it is there.
    """
    queue = Queue(name, {"x-queue-type": "classic", NEVER[0]: NEVER[1]}, "source")
    counts = await count(session, name)
    if counts is None:
        return Planned(queue, "missing")
    try:
        there, _ = await _compare(session, queue)
    except (ConfigError, aiormq.exceptions.ChannelClosed):
        return Planned(queue, "there", counts=counts)
    arguments = {key: value for key, value in there.arguments.items() if key != NEVER[0]}
    return Planned(queue, "there", there=replace(there, arguments=arguments), counts=counts)


async def look_left(session: Session, queue: Queue) -> Planned | None:
    """Look for the queue in which an interrupted migration left messages."""
    other = replace(queue, name=queue.name + MIGRATING)
    counts = await count(session, other.name)
    if counts is None:
        return None
    there, differences = await _compare(session, other)
    return Planned(other, "left over", tuple(differences), there, counts)


async def refuse_left_over(session: Session, names: Sequence[str]) -> None:
    """Refuse to start beside messages that an interrupted migration left behind.

    Raises:
        ConfigError: There are some.
    """
    found = await asyncio.gather(*(count(session, name + MIGRATING) for name in names))
    left = [name for name, counts in zip(names, found, strict=True) if counts is not None]
    if left:
        raise ConfigError(
            f"The migration of {', '.join(left)} is not finished: messages are still in "
            f"{left[0]}{MIGRATING}.",
            fix="Run `rolekit topology apply`, which goes on where it was interrupted.",
        )


async def _compare(session: Session, queue: Queue) -> tuple[Queue, list[Difference]]:
    """Ask for difference after difference; return the queue as it is, and how it differs."""
    there, found = queue, list[Difference]()
    for _ in range(ROUNDS):
        said = await _ask(session, there)
        if said is None:
            break
        one = difference(said)
        if one is not None and queue.arguments.get(one.argument) == NEVER[1]:
            break
        if one is None:
            found.append(Difference(f'"{said}"', None, None))
            break
        wanted = queue.arguments.get(one.argument)
        if one.argument not in _FLAGS:
            one = replace(one, wanted=None if wanted is None else str(wanted))
        found.append(one)
        changed = _changed(there, one)
        if changed is None:
            break
        there = changed
    return there, found


async def _ask(session: Session, queue: Queue) -> str | None:
    """Declare a queue that is there; return what the broker says against that."""
    async with session.brief_channel() as channel:
        async with may_declare(queue.name):
            try:
                await declare_one(channel, queue)
            except aiormq.exceptions.ChannelPreconditionFailed as error:
                return str(error)
        return None


def _changed(queue: Queue, told: Difference) -> Queue | None:
    """Return a queue with what the broker told of it; None: that cannot be written down."""
    flag = told.there == "true"
    if told.argument == "durable":
        return replace(queue, durable=flag)
    if told.argument == "auto_delete":
        return replace(queue, auto_delete=flag)
    if told.argument == "exclusive":
        return replace(queue, exclusive=flag)
    arguments = dict(queue.arguments)
    if told.there is None:
        arguments.pop(told.argument, None)
    else:
        value = _typed(told, arguments.get(told.argument))
        if value is None:
            return None
        arguments[told.argument] = value
    return replace(queue, arguments=arguments)


def _typed(told: Difference, ours: object) -> str | int | bool | None:
    """Give a value its type back: as the broker says it, or that of ours, which it shares."""
    text, kind = told.there, told.there_type
    if text is None:
        return None
    if kind == "bool" or (not kind and isinstance(ours, bool)):
        return text == "true"
    if kind in _WHOLE_NUMBERS or (not kind and isinstance(ours, int)):
        return int(text) if text.lstrip("-").isdigit() else None
    if kind == "longstr" or (not kind and isinstance(ours, str)):
        return text
    return None
