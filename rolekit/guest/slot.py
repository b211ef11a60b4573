"""One place of a pool: a keeper, and the guest that it has now."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rolekit.errors import GuestFailed, Reject, Retry
from rolekit.guest.current import NOTHING, current_message
from rolekit.guest.gated import Gated
from rolekit.guest.hosts import MIB
from rolekit.guest.kept import Ended, Keeper
from rolekit.guest.once import Exec
from rolekit.guest.runner import Runner
from rolekit.guest.servers import Door, Server, Serving
from rolekit.guest.speaking import FLUSH_S
from rolekit.guest.talks import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.guest.declare import Guest
    from rolekit.guest.hosts import Launch, Starts
    from rolekit.guest.pipes import Pipes

SPENT = "it has run"


class Slot:
    """A place of a pool.

    Args:
        place: "Role.attribute", for people.
        guest: The declaration.
        launch: How its host starts it.
        on_unfit: Called when a guest that stays can no more be asked, and nobody asks it.

    Attributes:
        session: What handlers use; None where no guest is there.
        calls: Under way.
        retired: Why the guest gets no more calls; empty: it does.
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
        self._keeper = self._new_keeper()
        self._runner: Runner | None = None
        self._pipes: Pipes | None = None
        self._door: Door | None = None
        self._end: asyncio.Future[Ended] | None = None
        self._uses = 0
        self._born_s = 0.0
        self._is_up = False
        self._serving: Serving | None = None
        self.session: object = None
        self.calls = 0
        self.retired = ""

    @property
    def is_exec(self) -> bool:
        """Whether a guest lives for one call only."""
        return isinstance(self._guest.speaks, Exec)

    @property
    def is_ready(self) -> bool:
        """Whether a call has nothing to wait for; False: the next guest is still being made."""
        return self._runner is None or self._runner.is_ready

    @property
    def has_room(self) -> bool:
        """Whether the guest may be given another call."""
        speaks = self._guest.speaks
        most = speaks.in_flight if isinstance(speaks, Server) else 1
        return not self.retired and self.calls < most

    async def fill(self) -> None:
        """Have a guest ready: after the start, and after `empty`.

        Raises:
            GuestFailed: It did not get ready; says why.
        """
        self.retired = ""
        if self._keeper.is_lost or not self._keeper.pid:
            await self._keeper.stop()
            self._keeper = self._new_keeper()
            await self._keeper.start()
        if self.is_exec:
            await self._keeper.ready()
            self.session = self._guest.speaks.open(await self._filled_runner(), None)
            return
        limit_s = self._guest.limits.start_s
        try:
            async with asyncio.timeout(limit_s):
                await self._stay()
        except TimeoutError:
            raise self._too_slow(f"it was not ready within start_s, {limit_s:g} s") from None

    async def _filled_runner(self) -> Runner | Gated:
        limits, keeper = self._guest.limits, self._keeper
        if not isinstance(keeper, Keeper):
            return Gated(self._place, self._launch, limits, keeper)
        self._runner = Runner(self._place, self._launch, limits, keeper)
        await self._runner.fill()
        return self._runner

    def _too_slow(self, what: str) -> GuestFailed:
        tail = b"" if self._pipes is None else self._pipes.tail()
        if self._serving is None or self._door is None:
            return GuestFailed(f"{what}.", stderr_tail=tail)
        if self._door.has_folders:
            return GuestFailed(f"{what}: {self._serving.tried}.", stderr_tail=tail)
        return GuestFailed(
            f"{what}: {self._serving.tried}",
            stderr_tail=tail,
            fix=f"It shall listen at {self._door.address}: tell it by {{port}} or {{socket}} "
            "in its command, or by PORT, which is in its environment.",
        )

    async def _stay(self) -> None:
        pipes = await self._piped()
        speaks = self._guest.speaks
        if isinstance(speaks, Server):
            await self._serve(speaks, pipes)
        else:
            argv = self._launch.command
            self._end = await self._keeper.launch(self._launch, pipes.theirs, argv)
            pipes.give_away()
            pipes.stdout.begin()
            self.session = speaks.open(pipes.stdin, pipes.stdout)
        try:
            await self._ready()
        except GuestFailed as error:
            raise await self._told(error) from error
        self._uses, self._born_s = 0, time.monotonic()
        self._is_up = True
        pipes.stdout.on_noise = self._noise
        pipes.stdout.end()

    async def _serve(self, speaks: Server[object], pipes: Pipes) -> None:
        cap_bytes = self._guest.limits.output_mb * MIB
        door = await asyncio.to_thread(Door, self._keeper, self._launch, speaks, cap_bytes)
        self._door = door
        argv, env = speaks.told(self._launch.command, door.address)
        self._end = door.ended = await self._keeper.launch(
            replace(self._launch, folders=speaks.folders),
            pipes.theirs,
            argv,
            env=env,
            is_reached=True,
        )
        pipes.give_away()
        pipes.stdin.close()
        self.session = session = speaks.open(door, None)
        if isinstance(session, Serving):
            self._serving = session

    async def _ready(self) -> None:
        """Wait until the guest can be asked, or has ended."""
        if isinstance(self.session, Session):
            await self.session.ready()
        elif self._serving is not None and self._end is not None:
            ready = asyncio.ensure_future(self._serving.ready())
            try:
                either: list[asyncio.Future[Any]] = [ready, self._end]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self._end.done():
                    raise GuestFailed("it ended before it was ready.")
                await ready
            finally:
                ready.cancel()
                await asyncio.gather(ready, return_exceptions=True)
            self._end.add_done_callback(lambda _: self._noise())

    def _new_keeper(self) -> Starts:
        berth = self._launch.berth
        return Keeper(self._guest.limits) if berth is None else berth()

    async def _piped(self) -> Pipes:
        pipes = self._pipes = self._keeper.pipes(
            self._place,
            self._guest.limits.output_mb * MIB,
            is_server=isinstance(self._guest.speaks, Server),
        )
        await pipes.open()
        pipes.log_for(current_message.get())
        return pipes

    async def empty(self) -> None:
        """Have nothing of the guest left."""
        if self._serving is not None:
            self._serving.close()
            self._serving = None
        self.session = None
        self._is_up = False
        if self._runner is not None:
            await self._runner.close()
            self._runner = None
        await self._keeper.clear()
        if self._pipes is not None:
            self._pipes.close()
            self._pipes = None
        if self._door is not None:
            self._door.close()
            self._door = None

    async def close(self) -> None:
        """Give up the place, guest and keeper."""
        await self.empty()
        await self._keeper.stop()

    # -- a call ------------------------------------------------------------------------------

    async def call(self, name: str, /, *args: object, **kwargs: object) -> object:
        """Call a method of what speaks with the guest.

        Raises:
            GuestFailed: It took longer than `time_s`, the guest ended, or wrote too much.
            Exception: Whatever the method raised.
        """
        method = getattr(self.session, name)
        pipes = self._pipes
        if pipes is not None:  # of several calls at once, nobody knows whose line it is
            pipes.begin(current_message.get() if self.calls <= 1 else NOTHING)
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
            spent = SPENT if self._keeper.is_spent else ""
            return "its keeper died" if self._keeper.is_lost else spent
        if self._pipes is None or not self._pipes.stdout.is_quiet or self._is_noisy:
            return "it wrote more than the answer, or ended"
        if self._end is not None and self._end.done():
            return "it ended"
        if self._uses >= limits.uses:
            return f"it was used {self._uses} times"
        if time.monotonic() - self._born_s >= limits.age_s:
            return f"it is older than {limits.age_s:g} s"
        return ""

    @property
    def _is_noisy(self) -> bool:
        return self._serving is not None and self._serving.is_noisy

    def is_clean_after(self, error: BaseException) -> bool:
        """Whether a call that failed has left nothing that could reach the next."""
        if self.is_exec:
            return isinstance(error, Exception) and not self.why_unfit()
        # Servers say with these that they have answered, or were not even asked.
        is_answer = self._serving is not None and isinstance(error, (Retry, Reject))
        return is_answer and not self.why_unfit()

    def _noise(self) -> None:
        if self._is_up and not self.calls:
            self._on_unfit(self, "it wrote, or ended, while nobody asked")

    async def _told(self, error: GuestFailed) -> GuestFailed:
        """Say with an error how the guest ended, if it has, and what it said last."""
        status, because = None, ""
        if self._end is not None and not self.is_exec:
            await asyncio.wait([self._end], timeout=FLUSH_S)
            if self._end.done():
                ended = self._end.result()
                status, because = ended.status, ended.why_in(self._guest.limits)
        tail = b"" if self._pipes is None else self._pipes.tail()
        how = because or ("" if status is None else f" Its exit status was {status}.")
        what = (
            error.what if error.what.startswith(self._place) else f"{self._place}: {error.what}"
        )
        return GuestFailed(
            f"{what}{how}",
            status=error.status or status,
            stderr_tail=error.stderr_tail or tail,
            fix=error.fix,
        )
