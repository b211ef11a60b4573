"""Leading what exchanges hand to a queue around it, while the queue is made anew.

Other programs may publish to an exchange X, to which the queue Q is bound. M is a fanout
exchange of ours, `Q@migrating`; A, `Q@aside`, is its alternate exchange, which leads to the
queue T that holds Q's messages meanwhile:

    X ─── Q                               before, and after
    X ─── M ─── Q     M ··· A ─── T       laid: M has a binding, so its alternate is not asked
    X ─── M           M ··· A ─── T       led around: it has none
    X ─── M ─── Q'    M ··· A ─── T       led back, to the queue made anew

Each step is one binding more or less, after which every message still has one way: by two
ways to one queue it comes once. So nothing is lost and nothing comes twice, while the other
program goes on to publish. Each may be repeated, and is seen on the broker, so whoever was
interrupted does them again.

The default exchange takes no bindings: what is published to a queue by its name cannot be led
around.

Source: RabbitMQ, "Alternate Exchanges" and "Exchange to Exchange Bindings";
rabbit_exchange.erl, route (destinations are sorted and unique).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiormq

from rolekit.errors import ConfigError
from rolekit.transport.rabbitmq.topology import MIGRATING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from aiormq.abc import AbstractChannel

    from rolekit.transport.rabbitmq.session import Session

ASIDE = "@aside"
SETTLE_S = 0.3
"""What the broker routed before a binding changed has reached its queue by then."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What leads from an exchange to a queue.

    Attributes:
        queue: Its name on the broker.
        key: The routing key.
    """

    queue: str
    exchange: str
    key: str = ""

    @classmethod
    def read(cls, text: str) -> Binding:
        """Read `QUEUE=EXCHANGE` or `QUEUE=EXCHANGE:KEY`.

        Raises:
            ConfigError: It is neither.
        """
        queue, _, rest = text.partition("=")
        exchange, _, key = rest.partition(":")
        if not queue or not exchange:
            raise ConfigError(
                f"{text!r} names no binding: QUEUE=EXCHANGE or QUEUE=EXCHANGE:KEY is expected.",
                fix="`rabbitmqctl list_bindings` shows them. The default exchange needs none.",
            )
        return cls(queue, exchange, key)


class Detour:
    """The way around one queue.

    Args:
        bindings: Those of this queue, which AMQP does not tell.
    """

    def __init__(self, session: Session, queue: str, bindings: Iterable[Binding]) -> None:
        self._session = session
        self._queue = queue
        self._bindings = [one for one in bindings if one.queue == queue]
        self._switch = self._other = queue + MIGRATING
        self._aside = queue + ASIDE

    async def is_laid(self) -> bool:
        """Whether it is there, perhaps left over from an interruption.

        Raises:
            ConfigError: It is, and nobody says which bindings lead there.
        """
        is_laid = await self._is_there(self._switch)
        if is_laid and not self._bindings:
            raise ConfigError(
                f"The migration of {self._queue} was interrupted while messages of exchanges "
                "were led around it, and AMQP does not tell which exchanges these are.",
                fix="Give the same --bound as before. `rabbitmqctl list_bindings` shows them: "
                f"they lead to the exchange {self._switch}.",
            )
        return is_laid

    async def check(self) -> None:
        """Make sure that all exchanges are there; changes nothing.

        Raises:
            ConfigError: One is not.
        """
        for one in self._bindings:
            if not await self._is_there(one.exchange):
                raise ConfigError(
                    f"There is no exchange {one.exchange!r}, to which {one.queue} should be "
                    "bound.",
                    fix="Correct --bound: `rabbitmqctl list_bindings` shows the bindings.",
                )

    async def lay(self) -> None:
        """Lead all that goes to the queue through an exchange of ours."""
        if not self._bindings:
            return
        async with self._calls() as calls:
            await calls.exchange_declare(self._aside, exchange_type="fanout", durable=True)
            await calls.queue_bind(self._other, self._aside, "")
            await calls.exchange_declare(
                self._switch, exchange_type="fanout", durable=True,
                arguments={"alternate-exchange": self._aside},
            )  # fmt: skip
            await calls.queue_bind(self._queue, self._switch, "")
            for one in self._bindings:
                await calls.exchange_bind(self._switch, one.exchange, routing_key=one.key)
            for one in self._bindings:
                await calls.queue_unbind(one.queue, one.exchange, one.key)
        await asyncio.sleep(SETTLE_S)

    async def lead_around(self) -> None:
        """Let it go to the other queue from now on."""
        if self._bindings:
            async with self._calls() as calls:
                await calls.queue_unbind(self._queue, self._switch, "")
            await asyncio.sleep(SETTLE_S)

    async def lead_back(self) -> None:
        """Let it go to the queue itself from now on, and through no exchange of ours."""
        if not self._bindings:
            return
        async with self._calls() as calls:
            if await self._is_there(self._switch):
                await calls.queue_bind(self._queue, self._switch, "")
            for one in self._bindings:
                await calls.queue_bind(one.queue, one.exchange, one.key)
            if await self._is_there(self._switch):
                for one in self._bindings:
                    await calls.exchange_unbind(self._switch, one.exchange, routing_key=one.key)
            await asyncio.sleep(SETTLE_S)
            await calls.exchange_delete(self._switch)
            await calls.exchange_delete(self._aside)

    async def _is_there(self, exchange: str) -> bool:
        async with self._session.brief_channel() as channel:
            try:
                await channel.calls.exchange_declare(exchange, passive=True)
            except aiormq.exceptions.ChannelNotFoundEntity:
                return False
            return True

    @asynccontextmanager
    async def _calls(self) -> AsyncGenerator[AbstractChannel]:
        async with self._session.brief_channel() as channel:
            try:
                yield channel.calls
            except aiormq.exceptions.ChannelAccessRefused as error:
                raise ConfigError(
                    f"This user may not change the bindings of {self._queue}: {error}.",
                    fix="Run this as a user who may read its exchanges, and who may configure, "
                    f"write and read {self._queue} and what begins with its name.",
                ) from error


def refuse_others(bindings: Sequence[Binding], queues: Iterable[str]) -> None:
    """Refuse bindings of queues that are not the app's.

    Raises:
        ConfigError: There is one.
    """
    known = sorted(queues)
    for one in bindings:
        if one.queue not in known:
            raise ConfigError(
                f"--bound names the queue {one.queue}, which this app does not have.",
                fix=f"It has {', '.join(known)}.",
            )
