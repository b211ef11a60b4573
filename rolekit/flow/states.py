"""States between their reading and their commit: handed from step to step in one process.

Two steps that change one state take turns here instead of meeting in the database, where
the second would fail its version check and run again. The second does not wait for the
first one's commit: it goes on from what the first one made of it, and both commit together,
in order. When the first one's commit fails, so does the version check of the second, since
versions are drawn at random and nobody else's is the same; it runs again from what the
database has.

What was committed last is kept and need not be read again by a step that will change it:
the version check of its commit tells whether somebody else did meanwhile. Such a step runs
again, and the key is read from the database for a while.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rolekit.flow.submitted import Submitted
    from rolekit.store.base import StateChange, StateKey, Store

WAIT_S = 5.0
"""Two steps that wait for each other's states go on after this; one of them runs again."""

KEPT = 10_000
KEPT_BYTES = 4096
CONTESTED_S = 10.0
"""After a clash, a state is read each time for so long: others change it too."""


class Loaded(NamedTuple):
    """A state as it was taken.

    Attributes:
        version: 0: there was none.
        body: None: there was none.
        is_kept: It was not read now, so a step that does not change it must still have its
            version checked.
    """

    version: int
    body: bytes | None
    is_kept: bool = False


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
        self._kept: OrderedDict[StateKey, tuple[int, bytes]] = OrderedDict()
        self._contested: dict[StateKey, float] = {}
        self._is_changed: dict[str, bool] = {}

    async def take(self, key: StateKey, holder: object) -> Loaded:
        """Return a state, and hold it until `put`."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(holder)
        elif entry.holder is None:
            entry.holder = holder
        elif entry.holder is not holder:
            await self._queue(key, entry, holder)
        if entry.pending is not None and entry.holder is holder:
            return Loaded(*entry.pending, is_kept=True)
        if entry.holder is holder and self._is_changed.get(key.name):
            kept = self._kept.get(key)
            if kept is not None:
                return Loaded(*kept, is_kept=True)
        try:
            found = (await self._store.load_states([key])).get(key)
        except BaseException:
            self.put(key, holder)
            raise
        return Loaded(0, None) if found is None else Loaded(*found)

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
        outcome: Submitted | None = None,
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
            self._is_changed[key.name] = change.is_change
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

    def _known(self, key: StateKey, entry: _Entry, version: int, outcome: Submitted) -> None:
        entry.unknown -= 1
        is_done = outcome.exception() is None and outcome.result()
        if not is_done:
            entry.pending = None
            self.doubt(key)
        elif entry.pending is not None and entry.pending[0] == version:
            self._keep(key, entry.pending)
            entry.pending = None
        self._forget(key, entry)

    def doubt(self, key: StateKey) -> None:
        """Read a state anew from now on for a while: it is not what was kept."""
        self._kept.pop(key, None)
        self._contest(key)

    def _contest(self, key: StateKey) -> None:
        now_s = asyncio.get_running_loop().time()
        if len(self._contested) >= KEPT:
            self._contested = {k: at for k, at in self._contested.items() if at > now_s}
        self._contested[key] = now_s + CONTESTED_S

    def _keep(self, key: StateKey, value: tuple[int, bytes]) -> None:
        self._kept.pop(key, None)
        until_s = self._contested.get(key)
        if until_s is not None:
            if until_s > asyncio.get_running_loop().time():
                return
            del self._contested[key]
        if len(value[1]) <= KEPT_BYTES:
            self._kept[key] = value
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)

    def _forget(self, key: StateKey, entry: _Entry) -> None:
        if entry.holder is None and not entry.unknown and self._entries.get(key) is entry:
            del self._entries[key]
