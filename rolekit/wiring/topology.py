"""The queues of an app on RabbitMQ, for the command line."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rolekit.database import Database
from rolekit.store.postgres.host import count_hosts
from rolekit.transport.base import DEAD_QUEUE, INBOUND
from rolekit.wiring.broker import rabbit_transport
from rolekit.wiring.holding import is_rabbit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from rolekit.transport.rabbitmq import RabbitTransport
    from rolekit.transport.rabbitmq.migrate import Applied
    from rolekit.transport.rabbitmq.plan import Planned

LOCK = "~topology"


class Topology:
    """The queues that an app wants, and a broker that has some."""

    def __init__(
        self,
        transport: RabbitTransport,
        handlers: Sequence[str],
        database: Database,
        sources: Sequence[str] = (),
    ) -> None:
        self._transport = transport
        self._database = database
        self._sources = sources
        # What others dead-letter to comes first.
        self._queues = transport.wanted([DEAD_QUEUE, INBOUND, *handlers])

    async def plan(self) -> list[Planned]:
        """Compare them; behind those of the app are those of other programs it takes from."""
        from rolekit.transport.rabbitmq import plan  # noqa: PLC0415 - see rabbit_transport

        session = await self._transport.consuming()
        own = await plan.plan(session, self._queues)
        return own + [await plan.look_at_source(session, name) for name in self._sources]

    async def apply(
        self, *, force: bool, say: Callable[[Applied], None], bound: Sequence[str] = ()
    ) -> list[Applied]:
        """Make what is missing, and make anew what differs.

        Args:
            force: Though the app is running.
            say: Called after each queue.
            bound: Bindings that a queue made anew has too: `QUEUE=EXCHANGE:KEY` each.

        Raises:
            RolekitError: The app is running; nothing was changed.
            ConfigError: One of `bound` is no binding of a queue of this app.
        """
        from rolekit.transport.rabbitmq.detour import Binding  # noqa: PLC0415 - likewise
        from rolekit.transport.rabbitmq.migrate import apply  # noqa: PLC0415 - likewise

        bindings = [Binding.read(text) for text in bound]
        lock = self._transport.broker_name(LOCK)
        session = await self._transport.consuming()
        hosts = 0 if force else await count_hosts(self._database)
        return await apply(
            session, self._queues, lock=lock, force=force, hosts=hosts, bindings=bindings,
            say=say,
        )  # fmt: skip


@asynccontextmanager
async def open_topology(
    app_name: str,
    database: str,
    broker: str,
    handlers: Sequence[str],
    sources: Sequence[str] = (),
) -> AsyncGenerator[Topology | None]:
    """Connect to the broker; None: queues are in the database, and as they should be.

    Raises:
        ConfigError: It refuses these credentials, this vhost, or TLS.
        Unavailable: It cannot be reached.
    """
    if not is_rabbit(broker):
        yield None
        return
    transport = rabbit_transport(app_name, broker)
    leases = Database(database, app_name)
    try:
        await transport.start()
        yield Topology(transport, handlers, leases, sources)
    finally:
        await leases.close()
        await transport.stop()
