"""What several callers ask of a server at the same moment, done by one statement for all.

While one is under way, what others ask waits, and goes with the next: a commit to disk costs
the same for one as for hundreds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from rolekit.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

AT_ONCE = 2
"""Groups under way together: the server works on one while another waits for its disk."""
ALONE = 4
"""Of a group that was refused, so many are tried at the same time, each alone."""
COUNT = 500
BYTES = 4 << 20
"""Nobody is added to a group beyond these."""

T = TypeVar("T")
R = TypeVar("R")


class Grouped(Generic[T, R]):
    """Does what several callers ask for together, those of a group in their order.

    Args:
        do: Does all of these or none, and gives each its result.
        size_of: Says how many and how many bytes one is, against `COUNT` and `BYTES`.
        name: Of the tasks.
    """

    def __init__(
        self,
        do: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        size_of: Callable[[T], tuple[int, int]],
        name: str,
    ) -> None:
        self._do = do
        self._size_of = size_of
        self._name = name
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        # Owned by close(), which ends them.
        self._doing: set[asyncio.Task[None]] = set()

    async def ask(self, item: T) -> R:
        """Have this done; return its result when the group is durable.

        Where the caller is cancelled before its group began it is not done.

        Raises:
            Unavailable: The server did not answer: it may be done.
            Exception: Whatever `do` said of it, alone: nothing of others was refused.
        """
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if len(self._doing) < AT_ONCE:
            task = asyncio.create_task(self._do_waiting(), name=self._name)
            self._doing.add(task)
            task.add_done_callback(self._doing.discard)  # of one that never began
        return await done

    async def _do_waiting(self) -> None:
        some: list[tuple[T, asyncio.Future[R]]] = []
        try:
            while some := self._take():
                await self._do_some(some)
        finally:
            _fail(some, Unavailable("It stopped while this was being stored."))
            # In the turn in which nobody waited: who asks in the next one begins another.
            self._doing -= {asyncio.current_task()}

    async def _do_some(self, some: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._do([item for item, _ in some])
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            if len(some) == 1 or isinstance(error, Unavailable):
                _fail(some, error)
            else:  # one of them may be at fault: each alone, and none waits for that one
                room = asyncio.Semaphore(ALONE)
                await asyncio.gather(*(self._do_alone(one, room) for one in some))
        else:
            _finish(some, results)

    async def _do_alone(
        self, one: tuple[T, asyncio.Future[R]], room: asyncio.Semaphore
    ) -> None:
        async with room:
            try:
                results = await self._do([one[0]])
            except Exception as error:  # noqa: BLE001 - likewise
                _fail([one], error)
            else:
                _finish([one], results)

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        """Take what waits, as much as fits one group."""
        some: list[tuple[T, asyncio.Future[R]]] = []
        count = size = 0
        while self._waiting and count < COUNT and size < BYTES:
            item, done = self._waiting.popleft()
            if not done.done():
                some.append((item, done))
                more, bytes_ = self._size_of(item)
                count, size = count + more, size + bytes_
        return some

    async def close(self) -> None:
        """Do nothing more; who still waits is told."""
        doing = list(self._doing)
        for task in doing:
            task.cancel()
        await asyncio.gather(*doing, return_exceptions=True)
        _fail(self._waiting, Unavailable("It stopped before this was stored."))
        self._waiting.clear()


def _finish(some: Iterable[tuple[T, asyncio.Future[R]]], results: Sequence[R]) -> None:
    for (_, done), result in zip(some, results, strict=True):
        if not done.done():
            done.set_result(result)


def _fail(some: Iterable[tuple[T, asyncio.Future[R]]], error: Exception) -> None:
    for _, done in some:
        if not done.done():
            done.set_exception(error)
