"""Traces that are kept after all: their hosts ask one another for what they remember.

What failed or was slow is traced from there on. What came before was in other processes,
maybe on other hosts, and each remembers for a while what it did. So a host that has such a
span notes its trace in the database, every host reads what was noted about each second, and
its processes hand in what they still have.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from rolekit.model.span import Recall

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.model.span import Span
    from rolekit.observe.recalls import Recalls

log = structlog.get_logger("rolekit.traces")

EVERY_S = 1.0
TIDY_EVERY = 15
"""It is tidied each time it was read so often."""
WAITING = 1_000
"""So many wait to be noted; others are counted as cut beyond."""
KNOWN = 10_000
"""Of so many it is known that they were asked for already."""


class Recalling:
    """Asks for what came before, on behalf of one host.

    Args:
        recalls: Keeps what is asked for.
        tell: Tells the processes of this host.

    Attributes:
        cut: Traces of which too little was remembered, as far as this host knows.
    """

    def __init__(self, recalls: Recalls, tell: Callable[[list[Recall]], None]) -> None:
        self._recalls = recalls
        self._tell = tell
        self._wanted: dict[str, tuple[Recall, str]] = {}
        self._known: dict[str, None] = {}
        self.cut = 0

    def take(self, span: Span) -> None:
        """Note a span whose trace begins late, as it began."""
        root = span.attributes.get("messaging.message.conversation_id")
        if not isinstance(root, str) or root in self._known or root in self._wanted:
            return
        if len(self._wanted) >= WAITING:
            self.cut += 1
            return
        if not span.parent and "rolekit.kind" not in span.attributes:
            self.cut += 1  # what sent it did so too long ago
        self._wanted[root] = (Recall(root, span.trace), span.parent)

    async def run(self) -> None:
        """Ask and tell, until cancelled."""
        turns = 0
        while True:
            await asyncio.sleep(EVERY_S)
            turns += 1
            try:
                await self.run_once()
                if turns % TIDY_EVERY == 0:
                    self.cut += await self._recalls.drop_recalls()
            except Exception as error:  # noqa: BLE001 - traces are no reason for anything to end
                log.debug("nobody can be asked for traces now", error=str(error))

    async def run_once(self) -> None:
        """Note what is wanted here, and tell what is wanted anywhere.

        Raises:
            Unavailable: The database cannot be reached; what is wanted here stays.
        """
        if self._wanted:
            some = list(self._wanted.values())
            await self._recalls.recall(some)
            for recall, _ in some:
                self._wanted.pop(recall.root, None)
        found = [one for one in await self._recalls.recalled() if one.root not in self._known]
        if not found:
            return
        self._known |= dict.fromkeys(one.root for one in found)
        while len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]
        self._tell(found)
