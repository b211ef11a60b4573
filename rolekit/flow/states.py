"""States between their reading and their commit: handed from step to step in one process.

Two steps that change one state take turns here instead of meeting in the database, where
the second would fail its version check and run again. The second does not wait for the
first one's commit: it goes on from what the first one made of it, and both commit together,
in order. When the first one's commit fails, so does the version check of the second, since
versions are drawn at random and nobody else's is the same; it runs again from what the
database has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rolekit.store.base import StateChange, StateKey, Store

WAIT_S = 5.0
"""Two steps that wait for each other's states go on after this; one of them runs again."""

_Value = tuple[int, bytes | None]


@dataclass(slots=True, eq=False)
class _Entry:
    """One state that is in use.

    Attributes:
        holder: Who works with it now.
        waiting: Who comes next.
        pending: Version and body of the last step that was submitted, until it is known.
        unknown: Steps that were submitted and whose outcome is not known.
    """

    holder: object | None = None
    waiting: deque[tuple[object, asyncio.Future[None]]] = field(
        default_factory=deque[tuple[object, asyncio.Future[None]]]
    )
    pending: tuple[int, bytes] | None = None
    unknown: int = 0


class States:
    """The states that steps of this process use.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[StateKey, _Entry] = {}

    async def take(self, key: StateKey, holder: object) -> _Value:
        """Return version and body of a state, and hold it until `put`; (0, None): none yet."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(holder)
        elif entry.holder is None:
            entry.holder = holder
        elif entry.holder is not holder:
            await self._queue(key, entry, holder)
        if entry.pending is not None and entry.holder is holder:
            return entry.pending
        try:
            found = (await self._store.load_states([key])).get(key)
        except BaseException:
            self.put(key, holder)
            raise
        return (0, None) if found is None else found

    async def _queue(self, key: StateKey, entry: _Entry, holder: object) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (holder, turn)
        entry.waiting.append(waiting)
        try:
            async with asyncio.timeout(WAIT_S):
                await turn
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self.put(key, holder)
            raise
        finally:
            with suppress(ValueError):  # its turn may have come in the same moment
                entry.waiting.remove(waiting)

    def put(
        self,
        key: StateKey,
        holder: object,
        change: StateChange | None = None,
        outcome: asyncio.Future[bool] | None = None,
    ) -> None:
        """Give a state to whoever comes next.

        Args:
            key: Of the state.
            holder: As it was taken; nothing happens if somebody else holds it.
            change: That was submitted.
            outcome: Of that: whether it took effect.
        """
        entry = self._entries.get(key)
        if entry is None or entry.holder is not holder:
            return
        if change is not None and outcome is not None:
            entry.pending = (change.becomes, change.body)
            entry.unknown += 1
            outcome.add_done_callback(partial(self._known, key, entry, change.becomes))
        self._next(entry)
        self._forget(key, entry)

    def _next(self, entry: _Entry) -> None:
        entry.holder = None
        while entry.waiting:
            holder, turn = entry.waiting.popleft()
            if not turn.done():
                entry.holder = holder
                turn.set_result(None)
                return

    def _known(
        self, key: StateKey, entry: _Entry, version: int, outcome: asyncio.Future[bool]
    ) -> None:
        entry.unknown -= 1
        is_done = not outcome.cancelled() and outcome.exception() is None and outcome.result()
        if not is_done or (entry.pending is not None and entry.pending[0] == version):
            # From here on the database says it: others may change it too.
            entry.pending = None
        self._forget(key, entry)

    def _forget(self, key: StateKey, entry: _Entry) -> None:
        if entry.holder is None and not entry.unknown and self._entries.get(key) is entry:
            del self._entries[key]
