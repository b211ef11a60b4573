"""Time limits of handlers: one timer for all calls of a process.

A call that ends in time costs two entries of a dictionary; `asyncio.timeout` would plan and
cancel a timer for each.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType


class Overran(TimeoutError):
    """A call took longer than its handler may take."""


class Deadlines:
    """Cancels what overruns, each call in a task of its own."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.Task[Any], Limit] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = float("inf")

    def limit(self, seconds: float) -> Limit:
        """Bound the block that this is entered for; it raises `Overran` when over."""
        return Limit(self, seconds)

    def begin(self, call: Limit, seconds: float) -> asyncio.Task[Any]:
        """Note a call of the running task, and until when it may take."""
        loop = self._loop
        # Asking for the running loop costs a system call.
        task = None if loop is None else asyncio.current_task(loop)
        if loop is None or task is None:
            loop = self._loop = asyncio.get_running_loop()
            task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - handlers run in tasks
        call.until_s = loop.time() + seconds
        self._calls[task] = call
        if call.until_s < self._due_s:
            self._arm(loop, call.until_s)
        return task

    def end(self, task: asyncio.Task[Any]) -> None:
        """Forget a call."""
        self._calls.pop(task, None)

    def _arm(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_s = due_s
        self._timer = loop.call_at(due_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._due_s = None, float("inf")
        now_s = loop.time()
        soonest = float("inf")
        for task, call in self._calls.items():
            if call.is_over:
                continue
            if call.until_s <= now_s:
                call.is_over = True
                task.cancel()
            else:
                soonest = min(soonest, call.until_s)
        if self._calls and soonest < float("inf"):
            self._arm(loop, soonest)


class Limit:
    """One bounded block; see `Deadlines.limit`."""

    __slots__ = ("_cancelling", "_deadlines", "_seconds", "_task", "is_over", "until_s")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self.until_s = float("inf")
        self.is_over = False

    def renew(self) -> None:
        """Let the time begin anew; a call that is over stays so."""
        self.until_s = asyncio.get_running_loop().time() + self._seconds

    def __enter__(self) -> None:
        self.is_over = False
        self._task = self._deadlines.begin(self, self._seconds)
        self._cancelling = self._task.cancelling()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deadlines.end(self._task)
        if not self.is_over:
            return
        # As asyncio.timeout: a cancellation of ours becomes an Overran, another's goes on.
        is_ours = self._task.uncancel() <= self._cancelling
        if is_ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise Overran(f"It took longer than {self._seconds:g} s.") from error
