"""To another app, whose handlers nobody here knows: by the one queue that it has for that."""

from __future__ import annotations

import msgspec

from rolekit.model.envelope import Head, Packet, encode_head, plain
from rolekit.transport.base import outside_queue


def packet_for(app: str, head: Head, id_: str, body: bytes) -> Packet:
    """Build the packet of a message to another app: id and traces go on, positions do not."""
    head = msgspec.structs.replace(plain(head), frames=(), reply_to="")
    return Packet(queue=outside_queue(app), id=id_, head=encode_head(head), body=body)
