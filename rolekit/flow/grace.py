"""The time that what is in hand is given at a stop, and that a hard stop cuts short."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Grace:
    """Bounds one wait."""

    def __init__(self) -> None:
        self._is_over = False
        self._timeout: asyncio.Timeout | None = None

    def end(self) -> None:
        """Wait no longer, now and later."""
        self._is_over = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncGenerator[None]:
        """Let what is inside take so long.

        Raises:
            TimeoutError: It took longer, or the time was ended.
        """
        async with asyncio.timeout(0 if self._is_over else seconds) as timeout:
            self._timeout = timeout
            try:
                yield
            finally:
                self._timeout = None
