"""One query for everybody who asks in the same turn of the loop, or while one is under way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from rolekit.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class _Question(Generic[K, V]):
    """Keys asked for in one turn, and the answer to all of them."""

    def __init__(self) -> None:
        self.keys: set[K] = set()
        self.found: asyncio.Future[Mapping[K, V]]
        self.found = asyncio.get_running_loop().create_future()


class Together(Generic[K, V]):
    """Reads what many ask for at once.

    Args:
        read: Reads the values of some keys; those that are not there are left out.
    """

    def __init__(self, read: Callable[[list[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._read = read
        self._open: _Question[K, V] | None = None
        self._reading = asyncio.Lock()

    async def ask(self, keys: Iterable[K]) -> Mapping[K, V]:
        """Return the values of these keys, and perhaps of others.

        Whoever asks first reads for all who ask before the query begins, which is when the
        one before has ended. So the more there is to do, the more a query does.
        """
        question = self._open
        if question is not None:
            question.keys.update(keys)
            return await asyncio.shield(question.found)
        question = self._open = _Question()
        question.keys.update(keys)
        return await self._lead(question)

    async def _lead(self, question: _Question[K, V]) -> Mapping[K, V]:
        try:
            await asyncio.sleep(0)
            async with self._reading:
                self._open = None
                found = await self._read(list(question.keys))
        except BaseException as error:
            if self._open is question:
                self._open = None
            is_ours = isinstance(error, Exception)
            told = error if is_ours else Unavailable("Whoever read this was stopped.")
            question.found.set_exception(told)
            question.found.exception()
            raise
        question.found.set_result(found)
        return found
