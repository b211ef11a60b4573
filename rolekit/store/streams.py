"""Giving positions of streams, the same way in every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rolekit.model import position
from rolekit.model.envelope import Packet, decode_head, encode_head, is_behind
from rolekit.model.position import Frame, stream_path
from rolekit.model.reassembly import ClosedBy, Closing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.store.records import Step, Streamed


def placed(streamed: Streamed, number: int) -> Packet:
    """Return a packet with its position in it."""
    packet, opening = streamed.packet, streamed.opening
    frame = Frame(opening.id, opening.gather, stream_path(number))
    head = msgspec.structs.replace(decode_head(packet.head), frames=(frame,))
    return msgspec.structs.replace(packet, head=encode_head(head))


def parted(
    steps: Iterable[Step], tokens: Sequence[Packet]
) -> tuple[list[list[Packet]], list[Packet]]:
    """Part what leaves with a commit.

    Returns:
        Rows whose packets leave in order, a stream's next token last; and the rest.
    """
    behind = {decode_head(one.head).sequence: one for one in tokens if is_behind(one)}
    rows: list[list[Packet]] = []
    rest: list[Packet] = []
    for step in steps:
        token = None if step.release is None else behind.get(step.release.sequence)
        if token is None:
            rest += step.outputs
        else:
            rows.append([*step.outputs, token])
    return rows, rest + [one for one in tokens if not is_behind(one)]


def begun(sequence: str, first: int, end: int) -> list[Closing]:
    """Close the positions that hold rows, for those rows that begin here."""
    return [
        Closing(sequence=sequence, path=(row,), by=ClosedBy.SPLIT, total=position.ROW)
        for row in position.rows_begun(first, end)
    ]
