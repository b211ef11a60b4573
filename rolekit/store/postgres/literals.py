"""What every commit sends, as columns that cost little to encode.

asyncpg takes a microsecond for each item of an array, whatever it is, and a step has a dozen
of them. An array literal of Postgres, of ids or numbers, is joined in a tenth of that. Bytes
stay arrays of bytes, since they would double.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.store.postgres.rows import day_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.model.envelope import Packet
    from rolekit.store.base import Step


def of_inbox(ordered: Sequence[Step], claimed: Iterable[Step] | None = None) -> tuple[str, ...]:
    """Write what takes inbox rows: ids, generations, days, outcomes; and claims to end.

    Args:
        ordered: Steps whose rows are taken, in the order in which everybody does.
        claimed: Steps whose claims end; None: the same.
    """
    claims = (step.claim for step in (ordered if claimed is None else claimed))
    return (
        _ids(step.id for step in ordered),
        numbers(step.generation for step in ordered),
        numbers(day_of(step.birth_ms) for step in ordered),
        numbers(int(step.outcome) for step in ordered),
        numbers(claim for claim in claims if claim is not None),
    )


def of_states(
    folded: Sequence[tuple[str, str, str, int, bytes, int]],
) -> tuple[str | list[bytes], ...]:
    """Write states: scopes, names, keys, versions before, bodies, versions after."""
    return (
        texts(one[0] for one in folded),
        texts(one[1] for one in folded),
        texts(one[2] for one in folded),
        numbers(one[3] for one in folded),
        [one[4] for one in folded],
        numbers(one[5] for one in folded),
    )


def of_packets(packets: Sequence[Packet]) -> tuple[str | list[bytes], ...]:
    """Write packets: queues, ids, generations, births_ms (0: now), heads, bodies."""
    return (
        texts(packet.queue for packet in packets),
        _ids(packet.id for packet in packets),
        numbers(packet.generation for packet in packets),
        numbers(packet.birth_ms or 0 for packet in packets),
        [packet.head for packet in packets],
        [packet.body for packet in packets],
    )


def numbers(some: Iterable[int]) -> str:
    """Write numbers: `{1,2}`."""
    return f"{{{','.join(map(str, some))}}}"


def texts(some: Iterable[str]) -> str:
    r"""Write texts, whatever is in them: `{"a","a \\ b"}`."""
    quoted = ['"' + one.replace("\\", r"\\").replace('"', r"\"") + '"' for one in some]
    return f"{{{','.join(quoted)}}}"


def _ids(some: Iterable[str]) -> str:
    return f"{{{','.join(some)}}}"
