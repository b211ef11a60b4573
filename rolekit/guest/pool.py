"""The guests of one instance for one declaration: warm, looked after, replaced.

A place of the pool has room for a call, or is full, or is being refilled. Who calls takes one
with room, or waits. Most guests take one call at a time; a server may take several. Where a
guest cannot be asked again, its place gets no more calls, and is emptied and filled when the
last is over, which is what a golden image is: nothing of the old guest is left.

A program that runs once a call is made ready ahead of it. Where calls come faster than that,
the pool gets more places (`SPARE`), so that there is a stock; no more than `pool` run at once.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import structlog

from rolekit.errors import GuestFailed
from rolekit.guest.once import Exec
from rolekit.guest.servers import Serving
from rolekit.guest.slot import SPENT, Slot
from rolekit.guest.talks import Session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

    from rolekit.guest.declare import Guest
    from rolekit.guest.hosts import Launch

log = structlog.get_logger("rolekit.guest")

CHECK_S = 30.0
AGAIN_S, AGAIN_MAX_S = 0.1, 10.0
"""Between attempts to fill a place, doubling."""
SPARE = 3
"""Places besides `pool` at most: for guests that wait to run, not for more that run."""


class Pool:
    """The guests of one declaration.

    Args:
        place: "Role.attribute", for people.
        guest: The declaration.
        launch: How its host starts one.
    """

    def __init__(self, place: str, guest: Guest[object], launch: Launch) -> None:
        self._place = place
        self._guest = guest
        self._launch = launch
        self._slots = [self._new_slot() for _ in range(guest.pool)]
        self._free: deque[Slot] = deque()
        self._most = guest.pool if isinstance(guest.speaks, Exec) else 0
        self._calls = 0
        self._idle = 0
        self._waiting: deque[asyncio.Future[Slot]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_growing = False
        self._is_over = False

    def _new_slot(self) -> Slot:
        return Slot(self._place, self._guest, self._launch, self._unfit)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Have all places filled inside the block, and nothing left behind it.

        Raises:
            GuestFailed: A guest did not get ready.
        """
        try:
            await self._fill_all()
            self._spawn(self._care())
            yield
        finally:
            self._is_over = True
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(*(slot.close() for slot in self._slots))

    async def _fill_all(self) -> None:
        """Fill the places; of what is wrong with several, the first is told."""
        filled = await asyncio.gather(
            *(slot.fill() for slot in self._slots), return_exceptions=True
        )
        for failure in filled:
            if isinstance(failure, BaseException):
                raise failure
        for slot in self._slots:
            self._give_back(slot)

    async def call(
        self, name: str, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        """Call a method of a guest that is free.

        Raises:
            GuestFailed: The guest failed, or none can be started; says why.
            Exception: Whatever the method raised.
        """
        slot = await self._take()
        try:
            result = await slot.call(name, *args, **kwargs)
        except BaseException as error:
            # Else, how far the guest has come with it is not known.
            self._after(slot, "" if slot.is_clean_after(error) else f"a call failed: {error}")
            raise
        self._after(slot, slot.why_unfit())
        return result

    def _after(self, slot: Slot, why: str) -> None:
        """End a call, and with the last one the guest, if it is unfit."""
        slot.calls -= 1
        self._calls -= 1
        if why:
            self._retire(slot, why)
        elif slot.retired:
            self._refill_if_quiet(slot)
        else:
            self._give_back(slot)
        self._serve()

    async def _take(self) -> Slot:
        if slot := self._taken():
            return slot
        waiting: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._after(waiting.result(), "")
            raise

    def _taken(self) -> Slot | None:
        """Begin a call on a guest that has room, if there is one and it may run."""
        if self._most and self._calls >= self._most:
            return None
        while self._free:
            slot = next((one for one in self._free if one.is_ready), self._free[0])
            self._free.remove(slot)
            if why := slot.why_unfit():
                self._retire(slot, why)
                continue
            self._note_stock(is_late=not slot.is_ready)
            slot.calls += 1
            self._calls += 1
            if slot.has_room:
                self._free.append(slot)
            return slot
        self._note_stock(is_late=True)
        return None

    def _serve(self) -> None:
        """Let who waits have the guests that are free."""
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
            elif slot := self._taken():
                self._waiting.popleft().set_result(slot)
            else:
                return

    def _give_back(self, slot: Slot) -> None:
        """Let a guest have as many calls as it takes."""
        if slot.has_room and slot not in self._free:
            self._free.append(slot)
        self._serve()

    # -- a stock -----------------------------------------------------------------------------

    def _note_stock(self, *, is_late: bool) -> None:
        """Note at a call how many guests wait to run, and have one more where it finds none."""
        if not self._most:
            return
        self._idle = 0 if is_late else min(self._idle, sum(s.is_ready for s in self._free))
        if is_late and not self._is_growing and len(self._slots) < self._most + SPARE:
            self._is_growing = True
            self._spawn(self._grow())

    async def _grow(self) -> None:
        slot = self._new_slot()
        self._slots.append(slot)
        try:
            await self._refilled(slot)
        finally:
            self._is_growing = False

    async def _shrink(self) -> None:
        """Give up a place where one was idle at each call since this was asked last."""
        idle, self._idle = self._idle, len(self._slots)
        spare = [slot for slot in self._free if slot.is_ready]
        if self._most and idle and spare and len(self._slots) > self._most:
            self._free.remove(spare[0])
            self._slots.remove(spare[0])
            await spare[0].close()

    # -- replacing ---------------------------------------------------------------------------

    def _unfit(self, slot: Slot, why: str) -> None:
        """Replace an idle guest that cannot be asked any more."""
        if slot in self._free:
            self._retire(slot, why)

    def _retire(self, slot: Slot, why: str) -> None:
        """Give a guest no more calls, and replace it after those that it has."""
        if slot in self._free:
            self._free.remove(slot)
        if not slot.retired:
            slot.retired = why
            if why != SPENT:  # which is no news, and comes with each message
                log.info("replacing a guest", guest=self._place, why=why)
        self._refill_if_quiet(slot)

    def _refill_if_quiet(self, slot: Slot) -> None:
        if not slot.calls:
            self._spawn(self._refilled(slot))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done beside the calls; `running` ends it."""
        if self._is_over:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refilled(self, slot: Slot) -> None:
        """Empty a place and fill it, again and again until that works."""
        wait_s = AGAIN_S
        while True:
            await slot.empty()
            try:
                await slot.fill()
            except Exception as error:  # noqa: BLE001 - a protocol raises what it likes
                log.warning(
                    "a guest does not start; it is tried again",
                    guest=self._place,
                    why=str(error),
                    in_s=round(wait_s, 3),
                )
                self._fail_one(error)
                await asyncio.sleep(wait_s * (0.5 + random.random() / 2))  # noqa: S311 - jitter
                wait_s = min(wait_s * 2, AGAIN_MAX_S)
            else:
                self._give_back(slot)
                return

    def _fail_one(self, error: Exception) -> None:
        """Let somebody who waits know, so that its message is tried again by its policy."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(GuestFailed(f"{self._place} cannot be started: {error}"))
                return

    async def _care(self) -> None:
        """Look after idle guests: whether they are too old, and well."""
        while True:
            await asyncio.sleep(min(CHECK_S, self._guest.limits.age_s))
            await self._shrink()
            for slot in list(self._free):
                is_idle = slot in self._free and not slot.calls  # still, after the last check
                if is_idle and isinstance(slot.session, (Session, Serving)):
                    self._free.remove(slot)
                    slot.calls += 1
                    self._calls += 1
                    self._after(slot, slot.why_unfit() or await _why_unwell(slot))


async def _why_unwell(slot: Slot) -> str:
    try:
        await slot.call("check")
    except Exception as error:  # noqa: BLE001 - a check raises what it likes
        return f"its check failed: {error}"
    return slot.why_unfit()


class Crew:
    """What a handler sees of a pool: the methods of its sessions, on whichever is free."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        """Return what calls this method of a free guest."""
        if name.startswith("_"):
            raise AttributeError(name)
        pool = self._pool

        async def call(*args: object, **kwargs: object) -> object:
            return await pool.call(name, args, kwargs)

        vars(self)[name] = call
        return cast("Callable[..., Awaitable[object]]", call)
