"""Signals that ask a supervisor to stop: once is soft, twice is hard."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator


@dataclass(slots=True)
class Stops:
    """How often a stop was asked for by signal, and who wants to know."""

    count: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _cut: asyncio.Timeout | None = None

    def more(self) -> None:
        """Count one more; a step of the start that is under way ends."""
        self.count += 1
        self.changed.set()
        if self._cut is not None:
            self._cut.reschedule(asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def cutting(self) -> AsyncGenerator[asyncio.Timeout]:
        """Cut what is inside short when a stop is asked for; then `expired()` says so.

        Cancels the task it is used in, since a context manager of the databases must be
        left by the task that entered it.
        """
        cut = asyncio.timeout(0 if self.count else None)
        try:
            async with cut:
                self._cut = cut
                yield cut
        except TimeoutError:
            if not cut.expired():
                raise
        finally:
            self._cut = None

    async def next(self) -> int:
        """Wait for another signal; return how many came so far."""
        await self.changed.wait()
        self.changed.clear()
        return self.count


@contextlib.contextmanager
def stop_signals() -> Generator[Stops]:
    """Count SIGINT and SIGTERM inside the block, instead of ending."""
    stops = Stops()
    with handling(signal.SIGINT, stops.more), handling(signal.SIGTERM, stops.more):
        yield stops


@contextlib.contextmanager
def handling(number: signal.Signals, handle: Callable[[], None]) -> Generator[None]:
    """Call something on a signal inside the block; in the running loop."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        loop.remove_signal_handler(number)
