"""A RabbitMQ to break, and transports on it: what the tests `test_rabbitmq_*` share."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse
from typing import TYPE_CHECKING

from rolekit.errors import RolekitError
from rolekit.testing.broker import QUORUM_TICK_MS
from rolekit.transport.rabbitmq import RabbitTransport
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from rolekit.model.envelope import Packet
    from rolekit.testing.broker import PrivateBroker, QueueState
    from rolekit.testing.faults import Proxy
    from rolekit.transport.rabbitmq.topology import QueueType

APP = "f"
STALE_S = 1.5 * QUORUM_TICK_MS / 1000
RESUMES_S = patient(10.0)
"""Consuming and publishing go on so soon after whatever was in the way is gone."""


class Rig:
    """One virtual host, and connections to it.

    Args:
        broker: Has it.
        url: Of the virtual host.
    """

    def __init__(self, broker: PrivateBroker, url: str) -> None:
        self.broker = broker
        self.url = url
        self.vhost = urllib.parse.unquote(urllib.parse.urlsplit(url).path[1:])
        self._opened: list[RabbitTransport] = []
        self._asking = asyncio.Lock()

    async def connect(
        self,
        *,
        heartbeat_s: int = 20,
        proxy: Proxy | None = None,
        app: str = APP,
        queue_type: QueueType = "quorum",
    ) -> RabbitTransport:
        """Open one more connection, as a process of its own would."""
        url = self.url if proxy is None else proxy.url(self.url)
        url = f"{url}?heartbeat={heartbeat_s}"
        transport = RabbitTransport(url, app=app, queue_type=queue_type)
        self._opened.append(transport)
        await transport.start()
        return transport

    async def stop(self) -> None:
        """Close all connections."""
        for transport in self._opened:
            await transport.stop()

    async def delete(self, by: RabbitTransport, queue: str = "q") -> None:
        """Delete a queue as a client does, whoever uses it."""
        session = await by.consuming()
        async with session.brief_channel() as channel:
            await channel.calls.queue_delete(f"{APP}.{queue}")

    async def queue(self, queue: str = "q", app: str = APP) -> QueueState | None:
        """Say what the broker says of a queue; None when there is no such queue."""
        async with self._asking:
            found = await asyncio.to_thread(self.broker.list_queues, self.vhost)
        return next((state for state in found if state.name == f"{app}.{queue}"), None)

    async def until(
        self,
        holds: Callable[[QueueState], bool],
        queue: str = "q",
        app: str = APP,
        *,
        is_live: bool = False,
    ) -> QueueState:
        """Wait until something holds of a queue, as the broker sees it.

        Args:
            holds: Says it.
            queue: Name.
            app: The queue's.
            is_live: What the broker says is of now: not so of quorum queues.
        """
        async with asyncio.timeout(RESUMES_S):
            if not is_live:
                await asyncio.sleep(STALE_S)
            while True:
                state = await self.queue(queue, app)
                if state is not None and holds(state):
                    return state
                await asyncio.sleep(0.05)

    async def left(self, app: str) -> int:
        """Count the messages in all queues of an app."""
        async with self._asking:
            found = await asyncio.to_thread(self.broker.list_queues, self.vhost)
        mine = [state for state in found if state.name.startswith(f"{app}.")]
        return sum(state.ready + state.unacked for state in mine)

    async def close_connections(self) -> int:
        """Let the broker close every connection."""
        return await asyncio.to_thread(self.broker.close_all_connections)


@contextlib.asynccontextmanager
async def rig_on(broker: PrivateBroker) -> AsyncGenerator[Rig]:
    """Make a rig in a virtual host of its own."""
    with contextlib.ExitStack() as stack:
        url = await asyncio.to_thread(stack.enter_context, broker.vhost())
        rig = Rig(broker, url)
        try:
            yield rig
        finally:
            await rig.stop()
            if broker.pid is None:
                await asyncio.to_thread(broker.start)
            await asyncio.to_thread(stack.close)


async def published(transport: RabbitTransport, *wanted: Packet) -> int:
    """Publish until that is confirmed, as the outbox does; return how often it took."""
    tries = 1
    while True:
        try:
            await transport.publish(list(wanted))
        except RolekitError:
            tries += 1
            await asyncio.sleep(0.05)
        else:
            return tries


async def within(seconds: float, holds: Callable[[], bool]) -> None:
    """Wait until something holds, which nobody tells."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.05)
