"""Messages that other programs wrote, as packets of ours.

A message is named by its own id together with the queue it came from; without an id it is
another one each time it is delivered, and deaths of instances are counted by what is in it.
A task of Celery has its id in a header.

Source: DESIGN 4.4, "From outside".
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING
from uuid import uuid4

from rolekit.errors import RolekitError
from rolekit.model import celery
from rolekit.model.envelope import Head, Nameless, Packet, encode_head
from rolekit.transport.rabbitmq import wire

if TYPE_CHECKING:
    from rolekit.transport.rabbitmq.wire import Foreign

_JSON = frozenset({"", "application/json", "application/x-json", "application/octet-stream"})


def packet_of(
    read: Foreign, body: bytes, *, queue: str, source: str, type_: str, now_ms: int
) -> Packet:
    """Build the packet of a message that another program wrote.

    Args:
        read: Its properties.
        body: As it came.
        queue: Of the handler.
        source: The queue it came from, by the name that makes its id.
        type_: What it is where it does not say.
        now_ms: The time, where it does not say.
    """
    sent_ms = now_ms if read.timestamp_s is None else read.timestamp_s * 1000
    if sent_ms > wire.MAX_BIRTH_MS:
        sent_ms = now_ms  # some programs write milliseconds, or worse
    codec = codec_of(read.content_type)
    message_id, type_ = read.message_id or "", read.type or type_
    headers = {k: v for k, v in read.headers.items() if isinstance(v, str)}
    if celery.is_task(read.headers):
        message_id, type_ = headers["id"], headers["task"]
        headers = celery.kept(read.headers)
        if codec == "json":
            codec, body = celery.CODEC, celery.timed(read.headers, body)
    id_ = _digest(message_id, source) if message_id else uuid4().hex
    head = Head(
        type=type_, codec=codec, root=id_, sent_at_ms=sent_ms, headers=headers,
    )  # fmt: skip
    try:
        encoded = encode_head(head)
    except RolekitError:
        encoded = b""
    if message_id:
        return Packet(queue=queue, id=id_, birth_ms=sent_ms, head=encoded, body=body)
    # What the broker adds, such as how often it delivered, begins with x-.
    said = sorted(item for item in headers.items() if not item[0].startswith("x-"))
    alike = _digest(source, type_, codec, repr(said), body.hex())
    return Nameless(queue=queue, id=id_, birth_ms=sent_ms, head=encoded, body=body, alike=alike)


def codec_of(content_type: str | None) -> str:
    """Say how a body is encoded: as JSON where nothing else is said.

    Returns:
        "json", "msgpack", or the content type itself, which nobody reads.
    """
    said = (content_type or "").partition(";")[0].strip().lower()
    if "msgpack" in said:
        return "msgpack"
    if said in _JSON or said.startswith("text/") or said.endswith("+json"):
        return "json"
    return said


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
