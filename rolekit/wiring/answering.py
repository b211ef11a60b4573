"""What a role in the foreground says of itself: what its supervisor would, were there one.

Its numbers and whether it is ready, where `control` is an address; its numbers to a collector,
where one is named.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from rolekit.errors import RolekitError
from rolekit.model.conventions import naming
from rolekit.observe.lag import LagLog
from rolekit.supervisor import control_server
from rolekit.supervisor.numbers import Numbers
from rolekit.supervisor.status import FleetStatus, InstanceStatus, RoleStatus
from rolekit.wiring.counted import counted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from rolekit.config import Config
    from rolekit.model.sample import Sample
    from rolekit.roles.host import Instance
    from rolekit.wiring.hosting import Host
    from rolekit.wiring.parts import Parts

LOOK_EVERY_S = 1.0


class Answering:
    """The numbers of one process.

    Args:
        config: Where it answers, and whom it tells.
        parts: Of the process.
        host: Says what stands in queues.
        role: Which role it runs.
        lost: Says what is missing of traces, by names of numbers.
    """

    def __init__(
        self,
        config: Config,
        parts: Parts,
        host: Host,
        role: str,
        lost: Callable[[], dict[str, int]],
    ) -> None:
        self._config = config
        self._parts = parts
        self._host = host
        self._name = f"{role}@{socket.gethostname()}"
        plan = parts.services.runtime.plan
        mine = [one for one in plan.handlers.values() if one.role == role]
        self._queues = [one.name for one in mine]
        self._app, self._role = plan.name, role
        gathers = [one.name for one in mine if one.kind == "gather"]
        how = naming(config.broker, config.database, plan.name, frozenset(plan.queues()))
        self._numbers = Numbers(host.open_sequences, gathers, lost, how)
        self._instance: Instance | None = None
        self._is_ready = False
        self._lag_s = 0.0

    def watch(self, instance: Instance) -> None:
        """Tell of this instance."""
        self._instance = instance

    def ready(self) -> None:
        """Say that it is ready from now on."""
        self._is_ready = True

    def is_ready(self) -> bool:
        """Say whether it takes messages."""
        return self._is_ready

    async def metrics(self) -> str:
        """Say all numbers, as Prometheus wants them."""
        return await self._numbers.text(await self._status())

    async def read(self) -> list[Sample]:
        """Say all numbers."""
        return await self._numbers.read(await self._status())

    @asynccontextmanager
    async def running(self, taken: socket.socket | None) -> AsyncGenerator[None]:
        """Tell inside the block, and answer on a socket that listens, if there is one."""
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(self._look()), tasks.create_task(self._push())]
            try:
                token = self._config.control_token
                async with control_server.serve_reading(self, taken, token):
                    yield
            finally:
                for task in beside:
                    task.cancel()

    async def _look(self) -> None:
        """See how late this loop runs its timers."""
        loop, lags = asyncio.get_running_loop(), LagLog()
        while True:
            due = loop.time() + LOOK_EVERY_S
            await asyncio.sleep(LOOK_EVERY_S)
            self._lag_s = max(0.0, loop.time() - due)
            lags.note(self._lag_s, loop.time())
            self._numbers.lags(f"{self._role}/0", self._lag_s)

    async def _push(self) -> None:
        """Send numbers to the collector, where it takes any."""
        if not self._config.otlp and not any(
            os.environ.get(f"OTEL_EXPORTER_OTLP_{of}ENDPOINT") for of in ("", "METRICS_")
        ):
            return
        from rolekit.observe import otlp_metrics  # noqa: PLC0415 - only where it is wanted

        sends = otlp_metrics.metric_exporter(self._config.otlp, os.environ)
        if sends is not None:
            every_s = otlp_metrics.every_s(os.environ)
            await otlp_metrics.push(sends, self._app, self.read, every_s)

    async def _status(self) -> FleetStatus:
        """Describe this process as a fleet of one; a database that is away says nothing."""
        self._numbers.take(f"{self._role}/0", counted(self._parts, self._instance))
        try:
            depths = await self._host.depths()
        except RolekitError:
            depths = None
        standing = [depths[name] for name in self._queues if name in depths] if depths else []
        in_hand = 0 if self._instance is None else self._instance.in_hand
        state = "ready" if self._is_ready else "starting"
        role = RoleStatus(
            role=self._role, state=state, running=1, instances=1, ready=int(self._is_ready),
            in_hand=in_hand, rate=0.0,
            waiting=sum(one.waiting for one in standing) if standing else None,
            oldest_s=max(one.oldest_s for one in standing) if standing else None,
            dead=sum(one.dead for one in standing) if standing else None,
            places=(
                InstanceStatus(
                    name=self._name, state=state, pid=os.getpid(), restarts=0, in_hand=in_hand,
                    lag_ms=self._lag_s * 1000,
                ),
            ),
        )  # fmt: skip
        return FleetStatus(
            app=self._app, target=self._config.app, pid=os.getpid(), state=state,
            is_database_away=depths is None, roles=(role,),
        )  # fmt: skip
