"""The instance's side of a spawner, which runs one program after another."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from rolekit.errors import GuestFailed
from rolekit.guest.kept import Ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.guest.hosts import Launch
    from rolekit.guest.kept import Keeper
    from rolekit.guest.limits import Limits

LEAST_MB = 32
"""A spawner has the limits of its runs, and lives in no less."""
MAX_BYTES = 1 << 16


class CannotSpawn(Exception):
    """No program can be run by a spawner here; says why."""


class Spawning:
    """What runs programs, and its sandbox, if it has one.

    Args:
        keeper: Starts it. It runs, and has no other guest.
        limits: Of each run.

    Attributes:
        runs: Programs that were run by it.
        scratch: Folder that the next starts in, where we can write to it; else empty.
        is_clean: Whether none has left anything; one that is not is no use any more.
        is_over: Whether it is being killed.
    """

    def __init__(self, keeper: Keeper, limits: Limits) -> None:
        self._keeper = keeper
        self._limits = limits
        self._channel: socket.socket | None = None
        self._gate: int | None = None
        self._end: asyncio.Future[Ended] | None = None
        self._run: asyncio.Task[Ended] | None = None
        self._born_s = 0.0
        self._is_ready = False
        self.runs = 0
        self.scratch = ""
        self.is_over = False
        self.is_clean = False

    async def start(self, launch: Launch) -> None:
        """Start it.

        Raises:
            CannotSpawn: It is not to be had here.
            GuestFailed: It did not start in time, or its keeper is gone.
        """
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)  # noqa: FBT003 - the only way to say it
        with theirs:
            if launch.filter is None:
                self._end = await self._keeper.launch_spawner(launch, (), [theirs.fileno()])
            else:
                await self._start_in_sandbox(launch, theirs)
        self._born_s = time.monotonic()
        self.is_clean = True
        await self.ready()

    async def ready(self) -> None:
        """Wait until it can run the next; it runs none now.

        Raises:
            CannotSpawn: It cannot.
            GuestFailed: It takes too long.
        """
        if self._is_ready:
            return
        limit_s = self._limits.start_s
        try:
            async with asyncio.timeout(limit_s):
                answer = await self._answer()
        except TimeoutError:
            raise GuestFailed(f"its spawner was not ready in start_s, {limit_s:g} s.") from None
        if "ready" not in answer:
            self.is_clean = False
            raise CannotSpawn(str(answer.get("never", "its spawner ended")))
        self.scratch = str(answer["scratch"])
        self._is_ready = True

    async def _start_in_sandbox(self, launch: Launch, theirs: socket.socket) -> None:
        """Start a sandbox that stays until its gate closes, and the spawner in it."""
        gate, self._gate = os.pipe2(os.O_CLOEXEC)
        said, says = os.pipe2(os.O_CLOEXEC)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            pipes = [nothing, says, says, gate]
            self._end = await self._keeper.launch_spawner(
                launch, pipes, [theirs.fileno(), said]
            )
        finally:
            for fd in (gate, said, says, nothing):
                os.close(fd)

    @property
    def fits(self) -> bool:
        """Whether it may run another program."""
        return (
            self.is_clean
            and not self.is_over
            and self._end is not None
            and not self._end.done()
            and self.runs < self._limits.uses
            and time.monotonic() - self._born_s < self._limits.age_s
        )

    def run(
        self, pipes: Sequence[int], argv: Sequence[str], env: Mapping[str, str]
    ) -> asyncio.Future[Ended]:
        """Run a program; return its end, which comes when nothing runs any more.

        Args:
            pipes: Descriptors of its stdin, stdout and stderr. The caller closes them.
            argv: Program, with its path, and arguments.
            env: All of its environment, but HOME and TMPDIR where it has a scratch folder.

        Raises:
            GuestFailed: The spawner is gone.
        """
        assert self._channel is not None  # noqa: S101 - `start` was called
        self.runs += 1
        self._is_ready = False
        self.is_clean = False  # until it has been looked at, also where nobody waits for that
        told = os.memfd_create("run", os.MFD_CLOEXEC)
        own = {"HOME": self.scratch, "TMPDIR": self.scratch} if self.scratch else {}
        text = json.dumps({"argv": list(argv), "env": {**env, **own}}).encode()
        try:
            os.set_blocking(told, False)  # it is memory
            while text:
                text = text[os.write(told, text) :]
            os.lseek(told, 0, os.SEEK_SET)
            self._keeper.go()
            socket.send_fds(self._channel, [b"{}"], [*pipes, told])
        except OSError as error:
            raise GuestFailed(f"its spawner is gone: {error}.") from error
        finally:
            os.close(told)
        self._run = asyncio.create_task(self._ended())
        return self._run

    async def _ended(self) -> Ended:
        answer = await self._answer_while_kept()
        self._keeper.rest()
        status = answer.get("status")
        because = "memory" if self._keeper.has_killed() else ""
        self.is_clean = answer.get("is_clean") is True and not because
        if not self.is_clean:
            await self._keeper.clear()
        if self._end is not None and self._end.done():
            because = because or self._end.result().because
        return Ended(
            status if isinstance(status, int) else -signal.SIGKILL,
            because,
            str(answer.get("refused", answer.get("never", ""))),
        )

    async def _answer_while_kept(self) -> dict[str, object]:
        """Return what it says next; nothing where its keeper knows of its end, or is gone.

        A spawner that was stopped says nothing, and does not end with its keeper.
        """
        assert self._end is not None  # noqa: S101 - `start` was called
        answer = asyncio.ensure_future(self._answer())
        try:
            await asyncio.wait((answer, self._end), return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() else {}
        finally:
            answer.cancel()

    async def _answer(self) -> dict[str, object]:
        """Return what the spawner says next; nothing where it is gone."""
        assert self._channel is not None  # noqa: S101 - `start` was called
        try:
            text = await asyncio.get_running_loop().sock_recv(self._channel, MAX_BYTES)
        except OSError:
            text = b""
        answer: dict[str, object] = json.loads(text) if text else {}
        return answer

    async def end(self) -> None:
        """Have nothing left of it. Safe to call twice."""
        self.is_clean = False
        await self._keeper.clear()
        if self._run is not None:  # it ends with the sandbox
            await asyncio.wait([self._run])
        gate, self._gate = self._gate, None
        if gate is not None:
            os.close(gate)
        if self._channel is not None:
            self._channel.close()
