"""What keeps which traces are asked for, as a Protocol; `recalling` asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.span import Recall


class Recalls(Protocol):
    """Keeps which traces are asked for."""

    async def recall(self, some: Sequence[tuple[Recall, str]]) -> None:
        """Ask for some, each with the span that its first kept one stands behind."""
        ...

    async def recalled(self) -> Sequence[Recall]:
        """Return those that were asked for lately, by anybody."""
        ...

    async def drop_recalls(self) -> int:
        """Forget old ones; return of how many too little was remembered."""
        ...
