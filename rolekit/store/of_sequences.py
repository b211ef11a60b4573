"""What every store promises of sequences: the part of `base.Store` that gathers use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.position import Path
    from rolekit.model.reassembly import Closing
    from rolekit.store.flights import Flight, Held
    from rolekit.store.records import Commit, SequenceView
    from rolekit.store.splits import SplitRow


class OfSequences(Protocol):
    """Reads sequences, seals their runs, and tells of them."""

    async def view(self, sequence: str, limit: int, *, whole: bool) -> SequenceView | None:
        """Read a sequence and its next `limit` closings; from the first one if `whole`."""
        ...

    async def seal(
        self, sequence: str, before: Path, end: Path, closings: Sequence[Closing]
    ) -> Path | None:
        """Fix where the run that begins at `before` ends, for this and every later attempt.

        Args:
            sequence: Its id.
            before: Where the cursor stands.
            end: Where the run would end; an end that was fixed earlier wins.
            closings: Failures to store with it, for parts that ran out of time; a part that
                came meanwhile wins.

        Returns:
            Where the run ends; None when the cursor is elsewhere by now, or the sequence is
            over or unknown. Nothing was fixed or stored then, and what was read of the run is
            out of date: another attempt may have been given other parts.
        """
        ...

    async def heap(self, sequence: str, limit: int) -> SequenceView | None:
        """Read a sequence whose parts are taken as they come.

        Its closings are up to `limit` of those that were not handed over, or all of the run
        that was sealed; the horizon is where they, or the positions handed over, go on.
        """
        ...

    async def seal_heap(
        self, sequence: str, run: int, paths: Sequence[Path] | None, closings: Sequence[Closing]
    ) -> tuple[Path, ...] | None:
        """Fix what run number `run` takes, for this and every later attempt.

        Args:
            sequence: Its id.
            run: How many releases there were before.
            paths: What the run would take; what was fixed earlier wins. None fixes nothing.
            closings: As in `seal`.

        Returns:
            What it takes; None, and nothing is changed, when another run has begun, or the
            sequence is over or unknown.
        """
        ...

    async def expire(self, now_ms: int, limit: int) -> Commit:
        """Note which sequences' time is up, and let their gathers release what there is.

        A sequence that waits for its holes has no such end.
        """
        ...

    async def flights(self, limit: int) -> list[Flight]:
        """List open sequences, what moved longest ago first."""
        ...

    async def held(self, sequences: Sequence[str], ids: Sequence[str] = ()) -> list[Held]:
        """List packets that stand in these sequences, or are to move them on, or have an id.

        Those that are with a broker which is not the store's are not known to it.
        """
        ...

    async def find_split(self, message_id: str) -> SplitRow | None:
        """Say how far a split has come that takes several commits; None: none goes on."""
        ...
