"""One place of a pool: a keeper, and the guest that it has now."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from rolekit.errors import GuestFailed
from rolekit.guest.current import current_message
from rolekit.guest.hosts import MIB
from rolekit.guest.kept import Ended, Keeper
from rolekit.guest.once import Exec, Output
from rolekit.guest.pipes import Pipes
from rolekit.guest.talks import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rolekit.guest.declare import Guest
    from rolekit.guest.hosts import Launch

SIGNAL_BASE = 128
FLUSH_S = 1.0
"""What a dead guest had said is read within this: its pipe may be in the hands of others."""


class Slot:
    """A place of a pool.

    Args:
        place: "Role.attribute", for people.
        guest: The declaration.
        launch: How its host starts it.
        on_unfit: Called when a guest that stays can no more be asked, and nobody asks it.

    Attributes:
        session: What handlers use; None where no guest is there.
    """

    def __init__(
        self,
        place: str,
        guest: Guest[object],
        launch: Launch,
        on_unfit: Callable[[Slot, str], None],
    ) -> None:
        self._place = place
        self._guest = guest
        self._launch = launch
        self._on_unfit = on_unfit
        self._keeper = Keeper(guest.limits)
        self._pipes: Pipes | None = None
        self._end: asyncio.Future[Ended] | None = None
        self._uses = 0
        self._born_s = 0.0
        self.session: object = None
        self.is_idle = False

    @property
    def is_exec(self) -> bool:
        """Whether a guest lives for one call only."""
        return isinstance(self._guest.speaks, Exec)

    async def fill(self) -> None:
        """Have a guest ready: after the start, and after `empty`.

        Raises:
            GuestFailed: It did not get ready; says why.
        """
        if self._keeper.is_lost or not self._keeper.pid:
            await self._keeper.stop()
            self._keeper = Keeper(self._guest.limits)
            await self._keeper.start()
        if self.is_exec:
            self.session = self._guest.speaks.open(self, None)
            return
        limit_s = self._guest.limits.start_s
        try:
            async with asyncio.timeout(limit_s):
                await self._stay()
        except TimeoutError:
            raise GuestFailed(f"it was not ready within start_s, {limit_s:g} s.") from None

    async def _stay(self) -> None:
        pipes = await self._piped()
        self._end = await self._keeper.launch(self._launch, pipes.theirs, self._launch.command)
        pipes.give_away()
        pipes.stdout.begin()
        session = self._guest.speaks.open(pipes.stdin, pipes.stdout)
        try:
            if isinstance(session, Session):
                await session.ready()
        except GuestFailed as error:
            raise await self._told(error) from error
        self._uses, self._born_s = 0, time.monotonic()
        self.session = session
        pipes.stdout.on_noise = self._noise
        pipes.stdout.end()

    async def _piped(self) -> Pipes:
        pipes = self._pipes = Pipes(self._place, self._guest.limits.output_mb * MIB)
        await pipes.open()
        pipes.stderr.begin(current_message.get())
        return pipes

    async def empty(self) -> None:
        """Have nothing of the guest left."""
        self.session = None
        if self._pipes is not None:
            self._pipes.stdout.on_noise = lambda: None
        await self._keeper.clear()
        if self._pipes is not None:
            self._pipes.close()
            self._pipes = None

    async def close(self) -> None:
        """Give up the place, guest and keeper."""
        await self.empty()
        await self._keeper.stop()

    # -- a call ------------------------------------------------------------------------------

    async def call(self, name: str, *args: object, **kwargs: object) -> object:
        """Call a method of what speaks with the guest.

        Raises:
            GuestFailed: It took longer than `time_s`, the guest ended, or wrote too much.
            Exception: Whatever the method raised.
        """
        method = getattr(self.session, name)
        pipes = self._pipes
        if pipes is not None:
            pipes.stdout.begin()
            pipes.stderr.begin(current_message.get())
        limit_s = self._guest.limits.time_s
        self._uses += 1
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                return await method(*args, **kwargs)
        except TimeoutError:
            if not limit.expired():
                raise
            raise GuestFailed(
                f"{self._place} took longer than its time_s, {limit_s:g} s; it was killed."
            ) from None
        except GuestFailed as error:
            raise await self._told(error) from error
        finally:
            if pipes is not None:
                pipes.stdout.end()

    def why_unfit(self) -> str:
        """Say why the guest must be replaced, after a call that went well; empty: no need."""
        limits = self._guest.limits
        if self.is_exec:
            return "its keeper died" if self._keeper.is_lost else ""
        if self._pipes is None or not self._pipes.stdout.is_quiet:
            return "it wrote more than the answer, or ended"
        if self._end is not None and self._end.done():
            return "it ended"
        if self._uses >= limits.uses:
            return f"it was used {self._uses} times"
        if time.monotonic() - self._born_s >= limits.age_s:
            return f"it is older than {limits.age_s:g} s"
        return ""

    def _noise(self) -> None:
        if self.is_idle:
            self._on_unfit(self, "it wrote, or ended, while nobody asked")

    async def _told(self, error: GuestFailed) -> GuestFailed:
        """Say with an error how the guest ended, if it has, and what it said last."""
        status, because = None, ""
        if self._end is not None and not self.is_exec:
            await asyncio.wait([self._end], timeout=FLUSH_S)
            if self._end.done():
                ended = self._end.result()
                status, because = ended.status, self._because(ended)
        tail = b"" if self._pipes is None else bytes(self._pipes.stderr.tail)
        how = because or ("" if status is None else f" Its exit status was {status}.")
        what = (
            error.what if error.what.startswith(self._place) else f"{self._place}: {error.what}"
        )
        return GuestFailed(
            f"{what}{how}", status=error.status or status, stderr_tail=error.stderr_tail or tail
        )

    def _because(self, ended: Ended) -> str:
        limits = self._guest.limits
        return {
            "memory": f" It used more than its memory_mb, {limits.memory_mb}, and was killed.",
            "pids": f" It was more processes than its pids, {limits.pids}, and was killed.",
        }.get(ended.because, "")

    # -- a program that runs once ------------------------------------------------------------

    async def run_once(
        self, stdin: bytes, arguments: Sequence[str], files: Mapping[str, bytes]
    ) -> Output:
        """Run it to its end; see `Runs`."""
        pipes = await self._piped()
        try:
            return await self._run(pipes, stdin, arguments, files)
        except BaseException:
            self._keeper.kill()
            raise
        finally:
            await asyncio.shield(self.empty_run())

    async def empty_run(self) -> None:
        """Have nothing left of a run, and be ready for the next."""
        session = self.session
        await self.empty()
        self.session = session

    async def _run(
        self,
        pipes: Pipes,
        stdin: bytes,
        arguments: Sequence[str],
        files: Mapping[str, bytes],
    ) -> Output:
        message = current_message.get()
        env = {"ROLEKIT_MESSAGE_ID": message} if message else {}
        pipes.stdout.begin()
        argv = (self._launch.command[0], *arguments)
        self._end = await self._keeper.launch(
            self._launch, pipes.theirs, argv, env=env, files=files
        )
        pipes.give_away()
        writing = asyncio.create_task(self._feed(pipes, stdin))
        try:
            stdout = await pipes.stdout.read_to_end()
            ended = await asyncio.shield(self._end)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pipes.stderr.wait_closed(), FLUSH_S)
        finally:
            writing.cancel()
        tail = bytes(pipes.stderr.tail)
        if why := self._because(ended):
            raise GuestFailed(f"{self._place}:{why}", status=ended.status, stderr_tail=tail)
        status = ended.status
        if self._launch.filter is not None and status > SIGNAL_BASE:
            status = SIGNAL_BASE - status  # bubblewrap says it as a shell does
        return Output(stdout, tail, status)

    async def _feed(self, pipes: Pipes, stdin: bytes) -> None:
        if stdin:
            await pipes.stdin.write(stdin)
        pipes.stdin.close()
