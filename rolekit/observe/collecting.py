"""Where the spans of a host come together: from its instances, to whoever keeps them.

What an instance began is known here at once. Should it die, whoever collects ends its spans
with how it died: nothing that refers to them is left without them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec
import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from rolekit.model.span import Span
    from rolekit.observe.otlp import OtlpExport

log = structlog.get_logger("rolekit.traces")

EVERY_S = 0.25
TIDY_EVERY_S = 10.0
AWAY_S = 2.0
WAITING = 20_000
"""So many spans wait to be kept; the oldest go first beyond."""
BATCH = 1_000
MOST_OF_ONE = 5_000
"""So many spans of one trace are kept."""
TRACES = 4_096
"""Of so many traces it is known how many spans they have."""


def export_to(url: str, environ: Mapping[str, str], app: str) -> OtlpExport | None:
    """Begin to send spans to the collector that is named; None: none is.

    What sends takes 100 ms to import, so nobody pays for it who has no collector.

    Args:
        url: Of the collector, or empty.
        environ: The environment, which may name one too.
        app: Name of the service.

    Raises:
        ConfigError: The extra `otlp` is not installed, or the URL is none.
    """
    kin = (f"OTEL_EXPORTER_OTLP_{of}ENDPOINT" for of in ("", "TRACES_"))
    if not url and not any(environ.get(name) for name in kin):
        return None
    from rolekit.observe.otlp import export_of  # noqa: PLC0415 - see above

    return export_of(url, environ, app)


class Collector:
    """Collects spans.

    Args:
        keep: Keeps some; raises when it cannot.
        tidy: Drops old ones.
        export: Is given each span that ended; must not block. None: nobody is.

    Attributes:
        on_late: Called with the first span of a trace that is kept from there on.
    """

    def __init__(
        self,
        keep: Callable[[Sequence[Span]], Awaitable[None]],
        tidy: Callable[[], Awaitable[None]],
        export: Callable[[Span], None] | None = None,
    ) -> None:
        self._keep = keep
        self._tidy = tidy
        self._export = export
        self.on_late: Callable[[Span], None] = lambda _: None
        self._open: dict[str, dict[str, Span]] = {}
        self._waiting: deque[Span] = deque(maxlen=WAITING)
        self._counts: dict[str, int] = {}
        self._has_some = asyncio.Event()
        self._is_away = False
        self.dropped = 0

    def take(self, source: str, span: Span) -> None:
        """Take a span as it began or ended.

        Args:
            source: The process that it is of.
            span: As it stands.
        """
        mine = self._open.setdefault(source, {})
        if span.ended_ns:
            mine.pop(span.id, None)
            if self._export is not None:
                self._export(span)
        else:
            mine[span.id] = span
            if span.is_late:
                self.on_late(span)
        self._wait(span)

    def gone(self, source: str, how: str) -> None:
        """End the spans of a process that ended.

        Args:
            source: Which.
            how: It ended; empty: as it was told.
        """
        now_ns = time.time_ns()
        for span in self._open.pop(source, {}).values():
            ended = msgspec.structs.replace(
                span,
                ended_ns=now_ns,
                error="InstanceDied" if how else "",
                detail=f"The instance ended: {how}." if how else "",
                attributes={**span.attributes, "rolekit.outcome": "instance ended"},
            )
            if self._export is not None:
                self._export(ended)
            self._wait(ended)

    def _wait(self, span: Span) -> None:
        count = self._counts.get(span.trace, 0)
        if not count and len(self._counts) >= TRACES:
            del self._counts[next(iter(self._counts))]
        self._counts[span.trace] = count + bool(span.ended_ns)
        if count >= MOST_OF_ONE:
            self.dropped += 1
            return
        if len(self._waiting) == WAITING:
            self.dropped += 1
        self._waiting.append(span)
        self._has_some.set()

    async def run(self) -> None:
        """Keep what comes, until cancelled; then what is left, if that can be."""
        tidied_s = 0.0
        try:
            while True:
                await self._has_some.wait()
                await asyncio.sleep(EVERY_S)
                if not await self.flush():
                    await asyncio.sleep(AWAY_S)
                elif time.monotonic() - tidied_s > TIDY_EVERY_S:
                    tidied_s = time.monotonic()
                    await self._tried(self._tidy())
        finally:
            with_limit = asyncio.wait_for(self.flush(), AWAY_S)
            await asyncio.gather(asyncio.shield(with_limit), return_exceptions=True)

    async def flush(self) -> bool:
        """Keep what waits; say whether that worked."""
        while self._waiting:
            count = min(BATCH, len(self._waiting))
            some = [self._waiting.popleft() for _ in range(count)]
            is_kept = False
            try:
                is_kept = await self._tried(self._keep(some))
            finally:  # cancelled in the middle, too: what is kept twice replaces itself
                if not is_kept:
                    self._waiting.extendleft(reversed(some[: WAITING - len(self._waiting)]))
            if not is_kept:
                return False
        self._has_some.clear()
        return True

    async def _tried(self, work: Awaitable[None]) -> bool:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - traces are no reason for anything to end
            if not self._is_away:
                log.warning(
                    "traces cannot be kept now; the newest wait, the oldest are dropped",
                    error=str(error),
                )
            self._is_away = True
            return False
        if self._is_away:
            log.info("traces are kept again", dropped=self.dropped)
        self._is_away = False
        return True
