"""A RabbitMQ to break, and transports on it: what the tests `test_rabbitmq_*` share."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse
from typing import TYPE_CHECKING

from rolekit.errors import RolekitError
from rolekit.transport.rabbitmq import RabbitTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from rolekit.model.envelope import Packet
    from rolekit.testing.broker import PrivateBroker, QueueState
    from rolekit.testing.faults import Proxy

APP = "f"
RESUMES_S = 10.0
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
        self, *, heartbeat_s: int = 20, proxy: Proxy | None = None, app: str = APP
    ) -> RabbitTransport:
        """Open one more connection, as a process of its own would."""
        url = self.url if proxy is None else proxy.url(self.url)
        transport = RabbitTransport(f"{url}?heartbeat={heartbeat_s}", app=app)
        self._opened.append(transport)
        await transport.start()
        return transport

    async def stop(self) -> None:
        """Close all connections."""
        for transport in self._opened:
            await transport.stop()

    async def delete(self, queue: str = "q") -> None:
        """Delete a queue, whoever uses it."""
        await asyncio.to_thread(self.broker.delete_queue, f"{APP}.{queue}", self.vhost)

    async def queue(self, queue: str = "q", app: str = APP) -> QueueState | None:
        """Say what the broker says of a queue; None when there is no such queue."""
        async with self._asking:
            found = await asyncio.to_thread(self.broker.list_queues, self.vhost)
        return next((state for state in found if state.name == f"{app}.{queue}"), None)

    async def until(
        self, holds: Callable[[QueueState], bool], queue: str = "q", app: str = APP
    ) -> QueueState:
        """Wait until something holds of a queue, as the broker sees it."""
        async with asyncio.timeout(RESUMES_S):
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
