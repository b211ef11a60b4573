"""Reads the traces of a run from where the app keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.load.traced import Telling, Traced
    from rolekit.model.span import Span

_MOST = 1000
"""So many traces are read: evenly over the run, and those of its slowest requests."""
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
    # Those of the last requests may have been kept long after they began.
    begun = await kept.begun(
        telling.start_ns / 1e9 - _AROUND_S, telling.now_ns / 1e9 + _AROUND_S
    )
    thinned = begun[:: -(-len(begun) // _MOST) or 1]
    named = await kept.with_messages([message for message, _ in slowest if message])
    wanted = dict.fromkeys((*(trace for _, trace in slowest if trace), *named, *thinned))
    names = list(wanted)
    for at in range(0, len(names), _AT_ONCE):
        for spans in await kept.spans_of(names[at : at + _AT_ONCE]):
            telling.take(spans)
    return telling.told()
