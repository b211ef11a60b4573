"""Reads the traces of a run from where the app keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.load.traced import Telling, Traced
    from rolekit.model.span import Span

_MOST = 1000
"""So many traces are read, and those of the slowest requests."""
_LOOKED_UP = 20_000
"""Of so many requests it is asked whether they were traced."""
_AT_ONCE = 50
_AROUND_S = 2.0


class KeptTraces(Protocol):
    """Where traces are kept."""

    async def begun(self, since: float, until: float) -> list[str]:
        """Return the traces that began between two times, in order."""
        ...

    async def with_messages(self, messages: Sequence[str]) -> list[str]:
        """Return the traces that have spans of any of these messages."""
        ...

    async def spans_of(self, traces: Sequence[str]) -> list[list[Span]]:
        """Return the spans of some traces."""
        ...


async def read(
    kept: KeptTraces, telling: Telling, slowest: Sequence[tuple[str, str]]
) -> Traced:
    """Say what the traces of a run say.

    Args:
        kept: Where they are.
        telling: Takes them.
        slowest: Message and trace of the slowest requests, either empty where unknown.
    """
    named = await kept.with_messages([message for message, _ in slowest if message])
    found = _thinned(await _of_requests(kept, telling), _MOST)
    names = list(dict.fromkeys((*(trace for _, trace in slowest if trace), *named, *found)))
    for at in range(0, len(names), _AT_ONCE):
        for spans in await kept.spans_of(names[at : at + _AT_ONCE]):
            telling.take(spans)
    return telling.told()


async def _of_requests(kept: KeptTraces, telling: Telling) -> list[str]:
    """Name the traces of requests.

    Where an app is slow, far more traces begin in the middle of a request, since something
    was late there, than with one; so they are asked for by what requests are known by.
    """
    if telling.messages or telling.started:
        some = _thinned(list(telling.messages), _LOOKED_UP)
        return [*telling.started, *await kept.with_messages(some)]
    # Those of the last requests may have been kept long after they began.
    return await kept.begun(
        telling.start_ns / 1e9 - _AROUND_S, telling.now_ns / 1e9 + _AROUND_S
    )


def _thinned(names: list[str], most: int) -> list[str]:
    """Leave out some, evenly, so that there are no more than that."""
    return names[:: max(1, -(-len(names) // most))]
