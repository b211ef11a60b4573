"""What becomes of what was submitted, told at once to whoever asked.

A future of asyncio tells each by a callback of the event loop, which costs as much as all
else that is done about the end of a step. Where a batch ends, all of it ends in one go.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Submitted:
    """A step, or an output, whose end is not known yet; may be awaited by any number.

    Named as in `asyncio.Future`, but whoever is told of its end is called from there, and
    nobody cancels it: one who waits no longer leaves it as it is.
    """

    __slots__ = ("_error", "_is_fresh", "_told")

    def __init__(self) -> None:
        self._told: list[Callable[[Submitted], object]] | None = []
        self._is_fresh = False
        self._error: Exception | None = None

    def done(self) -> bool:
        """Say whether its end is known."""
        return self._told is None

    def add_done_callback(self, tell: Callable[[Submitted], object]) -> None:
        """Have this called when it ends; now, if it has."""
        if self._told is None:
            self._tell(tell)
        else:
            self._told.append(tell)

    def set_result(self, is_fresh: bool) -> None:  # noqa: FBT001 - as a future has it
        """End it: it is durable, and its inbox row was free or not."""
        self._is_fresh = is_fresh
        self._end()

    def set_exception(self, error: Exception) -> None:
        """End it: this is why it did not come about."""
        self._error = error
        self._end()

    def exception(self) -> Exception | None:
        """Return why it did not come about."""
        return self._error

    def result(self) -> bool:
        """Return whether its inbox row was free; raise where it did not come about."""
        if self._error is not None:
            raise self._error
        return self._is_fresh

    def __await__(self) -> Generator[object, None, bool]:
        """Wait for its end; return or raise as `result` does."""
        if self._told is not None:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._told.append(partial(_take, turn))
            yield from turn
        return self.result()

    def _end(self) -> None:
        told, self._told = self._told, None
        for tell in told or ():
            self._tell(tell)

    def _tell(self, tell: Callable[[Submitted], object]) -> None:
        """Call one; what it raises keeps nobody else from being told, as in the loop."""
        try:
            tell(self)
        except Exception as error:  # noqa: BLE001 - a bug: said, as the event loop says it
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{tell!r} failed", "exception": error}
            )


def _take(turn: asyncio.Future[None], _: Submitted) -> None:
    if not turn.done():  # cancelled: whoever waited does so no longer
        turn.set_result(None)
