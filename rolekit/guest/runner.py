"""Runs a program once a call, in a guest that was made ready before.

    ready ──go──▶ running ──▶ ended ──▶ ready again, while nobody waits

What takes long is done ahead: pipes, a scratch folder, a process with its limits in its cgroup
that is to start the program (see `spawning`), a whole sandbox. There they wait for what only
the call knows, arguments and environment. A spawner stays for many runs, and has nothing left
of one before the next.

A sandbox in which a run has left nothing at all is as good as a new one, and the next run has
it. Where programs leave something time and again, each has a new one, in which a shell waits
and becomes the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import GuestFailed
from rolekit.guest import going
from rolekit.guest.current import current_message
from rolekit.guest.hosts import MIB
from rolekit.guest.once import Output
from rolekit.guest.pipes import Pipes
from rolekit.guest.spawning import LEAST_MB, CannotSpawn, Spawning
from rolekit.guest.speaking import run_through

log = structlog.get_logger("rolekit.guest")

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.guest.hosts import Launch
    from rolekit.guest.kept import Ended, Keeper
    from rolekit.guest.limits import Limits

SIGNAL_BASE = 128
"""What a dead guest had said is read within this: its pipe may be in the hands of others."""
WORTH_RUNS, SHORT_LIVES = 3, 3
"""A sandbox that stays costs more than one for one run: where so many in turn did not last
for so many runs, there are no more. Without a sandbox, one run is worth a spawner."""
AT_ONCE_BYTES = 1 << 16
"""A pipe that is empty takes so much without a wait."""


@dataclass(slots=True, kw_only=True)
class _Ready:
    """A guest that waits to become the program.

    Attributes:
        gate: Where it is told what to be; closed, it ends. None: it is started by the call.
        ended: Its end, where it waits at a gate.
        spawning: That starts it, one of many.
    """

    pipes: Pipes
    born_s: float
    gate: int | None = None
    ended: asyncio.Future[Ended] | None = None
    spawning: Spawning | None = None

    def close(self) -> None:
        """Let go of it: what has not been told to go ends."""
        self.pipes.close()
        gate, self.gate = self.gate, None
        if gate is not None:
            os.close(gate)


class Runner:
    """Runs one program after another on one keeper.

    Args:
        place: "Role.attribute", for people.
        launch: How its host starts the guest.
        limits: Of each run.
        keeper: Starts them. It runs.
    """

    def __init__(self, place: str, launch: Launch, limits: Limits, keeper: Keeper) -> None:
        self._place = place
        self._launch = launch
        self._limits = limits
        self._keeper = keeper
        self._making: asyncio.Task[_Ready] | None = None
        self._spawning: Spawning | None = None
        self._short_lives = 0
        self._is_boxed = launch.filter is not None
        self._may_stay = launch.can_wait and limits.memory_mb >= LEAST_MB
        self._is_over = False

    @property
    def is_ready(self) -> bool:
        """Whether a guest waits for the next call."""
        return self._making is not None and self._making.done()

    async def fill(self) -> None:
        """Have a guest ready for the first call.

        Raises:
            GuestFailed: There is none; says why.
        """
        self._make_ahead()
        if self._making is not None:
            await self._making

    async def close(self) -> None:
        """Let go of the guest that is ready; nothing of it is left. Safe to call twice."""
        self._is_over = True
        making, self._making = self._making, None
        if making is not None:
            making.cancel()
            (made,) = await asyncio.gather(making, return_exceptions=True)
            if isinstance(made, _Ready):
                made.close()
        await self._clear()

    async def run_once(
        self, stdin: bytes, arguments: Sequence[str], files: Mapping[str, bytes]
    ) -> Output:
        """Run it to its end; see `Runs`."""
        ready = await self._taken(files)
        try:
            return await self._run(ready, stdin, arguments, files)
        except BaseException:
            if ready.spawning is not None:
                ready.spawning.is_over = True
            self._keeper.kill()
            raise
        finally:
            await asyncio.shield(self._after(ready))
            self._make_ahead()  # it begins when the caller waits for something

    # -- making ready ------------------------------------------------------------------------

    async def _taken(self, files: Mapping[str, bytes]) -> _Ready:
        """Take the guest that is ready, or have one made where it is not what is wanted."""
        if self._making is not None:
            try:
                ready = await asyncio.shield(self._making)
            except GuestFailed:
                self._making = None  # perhaps it can be made by now
            else:
                self._making = None
                if self._fits(ready, files):
                    return ready
                ready.close()
        return await self._make(files)

    def _fits(self, ready: _Ready, files: Mapping[str, bytes]) -> bool:
        if ready.spawning is not None:
            return ready.spawning.fits and self._can_have(files)
        if ready.ended is None:
            return True
        is_old = time.monotonic() - ready.born_s > self._limits.age_s
        return not ready.ended.done() and not is_old and self._can_have(files)

    def _can_have(self, files: Mapping[str, bytes]) -> bool:
        """Whether what is made before its call can be given these files: not in a sandbox."""
        return not files or not self._is_boxed

    def _make_ahead(self) -> None:
        if not self._is_over and not self._keeper.is_lost:
            self._making = asyncio.create_task(self._make({}))
            self._making.add_done_callback(_seen)

    async def _make(self, files: Mapping[str, bytes]) -> _Ready:
        if self._spawning is None or not self._spawning.fits or not self._can_have(files):
            await self._clear()
        pipes = Pipes(self._place, self._limits.output_mb * MIB)
        ready = _Ready(pipes=pipes, born_s=time.monotonic())
        try:
            await pipes.open()
            if self._may_stay and self._can_have(files):
                ready.spawning = await self._staying()
            if self._is_boxed and self._launch.can_wait and ready.spawning is None:
                await self._start(ready, files)
        except BaseException:
            ready.close()
            await asyncio.shield(self._clear())
            raise
        return ready

    async def _staying(self) -> Spawning | None:
        """Return the spawner that stays, or make one; None: there is none to be had."""
        try:
            if self._spawning is None:
                self._spawning = Spawning(self._keeper, self._limits)
                await self._spawning.start(self._launch)
            else:
                await self._spawning.ready()
        except CannotSpawn as error:
            log.info("a spawner cannot stay", guest=self._place, why=str(error))
            await self._clear()
        return self._spawning

    async def _start(self, ready: _Ready, files: Mapping[str, bytes]) -> None:
        """Have a sandbox for one run, with these files in it, wait at its gate."""
        theirs, ready.gate = os.pipe2(os.O_CLOEXEC)
        try:
            ready.ended = await self._keeper.launch(
                self._launch, [*ready.pipes.theirs, theirs], (), files=files
            )
        finally:
            os.close(theirs)
        ready.pipes.give_away()

    async def _after(self, ready: _Ready) -> None:
        """Have nothing left of a run."""
        if ready.spawning is None or not ready.spawning.fits:
            await self._clear()
        ready.close()

    async def _clear(self) -> None:
        """Have no guest, and no spawner."""
        spawning, self._spawning = self._spawning, None
        if spawning is None:
            await self._keeper.clear()
            return
        worth = WORTH_RUNS if self._is_boxed else 1
        self._short_lives = self._short_lives + 1 if spawning.runs < worth else 0
        self._may_stay = self._may_stay and self._short_lives < SHORT_LIVES
        await spawning.end()

    # -- a run -------------------------------------------------------------------------------

    async def _run(
        self,
        ready: _Ready,
        stdin: bytes,
        arguments: Sequence[str],
        files: Mapping[str, bytes],
    ) -> Output:
        message = current_message.get()
        pipes = ready.pipes
        pipes.begin(message)
        end = await self._go(ready, arguments, message.environment(), files)
        ended, stdout = await run_through(pipes, stdin, end)
        return self._judged(ended, Output(stdout, bytes(pipes.stderr.tail), ended.status))

    async def _go(
        self,
        ready: _Ready,
        arguments: Sequence[str],
        env: Mapping[str, str],
        files: Mapping[str, bytes],
    ) -> asyncio.Future[Ended]:
        """Have the guest become the program."""
        argv = (self._launch.command[0], *arguments)
        if ready.spawning is not None:
            if files:
                await asyncio.to_thread(_put, Path(ready.spawning.scratch), files)
            end = ready.spawning.run(ready.pipes.theirs, argv, self._launch.env | dict(env))
            ready.pipes.give_away()
            return end
        if ready.ended is None or ready.gate is None:
            end = ready.ended = await self._keeper.launch(
                self._launch, ready.pipes.theirs, argv, env=env, files=files
            )
            ready.pipes.give_away()
            return end
        told = going.told(argv, env)
        self._keeper.go()
        gate, ready.gate = ready.gate, None
        if len(told) <= AT_ONCE_BYTES:
            os.set_blocking(gate, False)
            _tell(gate, told)
        else:
            await asyncio.to_thread(_tell, gate, told)
        return ready.ended

    def _judged(self, ended: Ended, output: Output) -> Output:
        why = ended.why_in(self._limits)
        if ended.refused:
            why = f" it was not started: {ended.refused}."
        if why:
            raise GuestFailed(
                f"{self._place}:{why}", status=ended.status, stderr_tail=output.stderr_tail
            )
        if self._is_boxed and output.status > SIGNAL_BASE:
            # bubblewrap says it as a shell does
            return Output(output.stdout, output.stderr_tail, SIGNAL_BASE - output.status)
        return output


def _tell(gate: int, told: bytes) -> None:
    try:
        with contextlib.suppress(BrokenPipeError):  # it is gone: its end says so
            while told:
                told = told[os.write(gate, told) :]
    finally:
        os.close(gate)


def _put(scratch: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (scratch / name).write_bytes(data)


def _seen(making: asyncio.Task[_Ready]) -> None:
    """Take note of a failure; who calls next is told."""
    if not making.cancelled():
        making.exception()
