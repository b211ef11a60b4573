"""Time limits of handlers: one timer for all calls of a process.

A call that ends in time costs two entries of a dictionary; `asyncio.timeout` would plan and
cancel a timer for each.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType


class Overran(TimeoutError):
    """A call took longer than its handler may take."""


@dataclass(slots=True, eq=False)
class _Call:
    until_s: float
    cancelling: int
    is_over: bool = False


class Deadlines:
    """Cancels what overruns, each call in a task of its own."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.Task[Any], _Call] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = float("inf")

    def limit(self, seconds: float) -> Limit:
        """Bound the block that this is entered for; it raises `Overran` when over."""
        return Limit(self, seconds)

    def begin(self, seconds: float) -> tuple[asyncio.Task[Any], _Call]:
        """Note a call of the running task."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - handlers run in tasks
        loop = task.get_loop()
        call = self._calls[task] = _Call(loop.time() + seconds, task.cancelling())
        if call.until_s < self._due_s:
            self._arm(loop, call.until_s)
        return task, call

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

    __slots__ = ("_call", "_deadlines", "_seconds", "_task")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds

    def renew(self) -> None:
        """Let the time begin anew; a call that is over stays so."""
        self._call.until_s = asyncio.get_running_loop().time() + self._seconds

    def __enter__(self) -> None:
        self._task, self._call = self._deadlines.begin(self._seconds)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deadlines.end(self._task)
        if not self._call.is_over:
            return
        # As asyncio.timeout: a cancellation of ours becomes an Overran, another's goes on.
        is_ours = self._task.uncancel() <= self._call.cancelling
        if is_ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise Overran(f"It took longer than {self._seconds:g} s.") from error
