"""An event loop whose time jumps: who sleeps waits for nothing but his turn.

Several processes live on it. What belongs to one, by its context, can be stopped as SIGSTOP
stops a process: nothing of it runs, while timers run out and answers come for later.
"""

from __future__ import annotations

import asyncio
import selectors
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_Ts = TypeVarTuple("_Ts")


class Process:
    """One of several processes on a loop."""

    def __init__(self) -> None:
        self.is_stopped = False
        self._held: list[_Call] = []
        self.context = copy_context()
        self.context.run(PROCESS.set, self)

    def stop(self) -> None:
        """Let nothing of it run."""
        self.is_stopped = True

    def go_on(self) -> None:
        """Let it run again, beginning with what should have run."""
        self.is_stopped = False
        held, self._held = self._held, []
        loop = asyncio.get_running_loop()
        for call in held:
            call.again(loop)

    def hold(self, call: _Call) -> None:
        """Keep a call for later."""
        self._held.append(call)


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class _Call:
    """A call that its process may not be able to make when it is due."""

    __slots__ = ("_args", "_call", "_context", "_process", "handle")

    def __init__(
        self, call: Callable[..., object], args: tuple[Any, ...], context: Context, of: Process
    ) -> None:
        self._call = call
        self._args = args
        self._context = context
        self._process = of
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        if self._process.is_stopped:
            self._process.hold(self)
        else:
            self._call(*self._args)

    def again(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the call soon, unless it was cancelled meanwhile."""
        loop.call_soon(self._unless_cancelled, context=self._context)

    def _unless_cancelled(self) -> None:
        if self.handle is None or not self.handle.cancelled():
            self._call(*self._args)


class _Jumping(selectors.DefaultSelector):
    """Moves the time on instead of waiting, when nothing is ready."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:  # something is to be done, and nothing comes from outside
            return []
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("Everybody waits, and nothing will ever happen.")
        if not ready and timeout:
            self.now_s += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """Tells its own time, in seconds from 0."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        context = context or copy_context()
        call = _Call(callback, args, context, process)
        call.handle = super().call_soon(call, context=context)
        return call.handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        context = context or copy_context()
        call = _Call(callback, args, context, process)
        handle = super().call_at(when, call, context=context)
        call.handle = handle
        return handle


class LoopClock:
    """Rolekit's clock, by the time of the running loop; its start where none runs."""

    START_S = 1_800_000_000

    def now_ms(self) -> int:
        try:
            now_s = asyncio.get_running_loop().time()
        except RuntimeError:
            now_s = 0.0
        return self.START_S * 1000 + round(now_s * 1000)


def run(main: Coroutine[None, None, None]) -> None:
    """Run on a jumping loop."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main)
