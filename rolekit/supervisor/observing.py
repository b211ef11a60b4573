"""What instances tell of what they do, and where that goes: traces, numbers, a collector."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from rolekit import link
from rolekit.model.conventions import naming
from rolekit.observe.collecting import Collector, export_to
from rolekit.observe.recalling import Recalling
from rolekit.supervisor.numbers import Numbers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rolekit.config import Config
    from rolekit.model.sample import Sample
    from rolekit.model.span import Span
    from rolekit.supervisor.host import Ground
    from rolekit.supervisor.status import FleetStatus
    from rolekit.supervisor.wire import Described


class Observing:
    """Takes spans and numbers of instances; keeps them, and sends them on.

    Args:
        config: Names a collector, or does not.
        app: Whose instances they are.
        ground: Keeps traces, where it can; measures sequences.
        status: Describes the fleet.

    Raises:
        ConfigError: A collector is named, and nothing is there to send to it.
    """

    def __init__(
        self,
        config: Config,
        app: Described,
        ground: Ground,
        status: Callable[[], Awaitable[FleetStatus]],
    ) -> None:
        self._config = config
        self._app = app.app
        self._status = status
        self._export = export_to(config.otlp, os.environ, app.app)
        self._collector: Collector | None = None
        self._recalling: Recalling | None = None
        self._traces = ground.traces
        if ground.traces is not None:
            offer = None if self._export is None else self._export.offer
            self._collector = Collector(ground.traces.keep, ground.traces.tidy, offer)
        gathers = sorted({name for role in app.roles for name in role.feeds})
        queues = frozenset(name for role in app.roles for name in role.queues)
        how = naming(ground.broker, ground.database, app.app, queues)
        self._numbers = Numbers(ground.sequences, gathers, self._lost, how)

    def take(self, source: str, span: Span) -> None:
        """Take a span of a process."""
        if self._collector is not None:
            self._collector.take(source, span)

    def measured(self, source: str, samples: Sequence[Sample]) -> None:
        """Take what a process counted since it began."""
        self._numbers.take(source, samples)

    def lags(self, source: str, lag_s: float) -> None:
        """Take how late the loop of a process runs."""
        self._numbers.lags(source, lag_s)

    def restarted(self, role: str) -> None:
        """Count an instance that takes the place of one that ended."""
        self._numbers.restarted(role)

    def gone(self, source: str, how: str) -> None:
        """Note that a process ended; `how` is empty where it was in good order."""
        self._numbers.gone(source)
        if self._collector is not None:
            self._collector.gone(source, how)

    async def text(self) -> str:
        """Say all numbers, as Prometheus wants them."""
        return await self._numbers.text(await self._status())

    async def run(self, say: Callable[[link.ToInstance], None]) -> None:
        """Keep and send until cancelled.

        Args:
            say: Says something to every instance.
        """
        async with asyncio.TaskGroup() as tasks:
            if self._collector is not None and self._traces is not None:
                tasks.create_task(self._collector.run())
                self._recalling = Recalling(
                    self._traces, lambda recalls: say(link.Recalled(recalls))
                )
                self._collector.on_late = self._recalling.take
                tasks.create_task(self._recalling.run())
            if self._export is not None:
                tasks.create_task(self._push())
            await asyncio.Event().wait()

    async def close(self) -> None:
        """Send what waits, but not for long."""
        if self._export is not None:
            await asyncio.to_thread(self._export.close)

    async def _push(self) -> None:
        """Send numbers to the collector, where it takes any."""
        from rolekit.observe import otlp_metrics  # noqa: PLC0415 - only where it is wanted

        sends = otlp_metrics.metric_exporter(self._config.otlp, os.environ)
        if sends is not None:
            every_s = otlp_metrics.every_s(os.environ)
            await otlp_metrics.push(sends, self._app, self._read, every_s)

    async def _read(self) -> list[Sample]:
        return await self._numbers.read(await self._status())

    def _lost(self) -> dict[str, int]:
        unkept = 0 if self._collector is None else self._collector.dropped
        unsent = 0 if self._export is None else self._export.dropped
        cut = 0 if self._recalling is None else self._recalling.cut
        return {"rolekit.spans.dropped": unkept + unsent, "rolekit.traces.cut": cut}
