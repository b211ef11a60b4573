"""Dead letters that handlers are told of: a message to each handler of `DeadLetter[M]`.

It leaves with the transaction that parks, so whoever parks tells. Each is a message of its
own, with an id, attempts and retries of its own, and its step is always recorded: what it
does and that it is done commit together, and the last handler that is done closes the
letter as answered. One that fails for good is a dead letter itself, which nobody is told of.

A replay of the letter overtakes those that are not done: their steps would take effect beside
it. So whoever locks the letter first, replay or answer, decides.

Not told are letters of messages that cannot be read, since there is nothing to hand over,
and of messages that are too old, since those may have been handled.

Source: API 1 (DeadLetter) and 3, "Dead letters".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rolekit.errors import CodecError, RolekitError
from rolekit.flow.addressing import addressed
from rolekit.model.envelope import Attempts, Head, Kind, Packet
from rolekit.model.ids import derive
from rolekit.model.parts import DeadLetter
from rolekit.store.base import REPLAYED, Letters

if TYPE_CHECKING:
    from rolekit.flow.runtime import Runtime
    from rolekit.store.base import DeadLetterRow, Store


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """Body of the message that tells a handler of a dead letter.

    Attributes:
        letter: Id of the dead letter.
        handler: That gave up.
        reason: Why.
        attempts: How often it was tried.
        is_placed: Whether the message stood in a sequence: its gather was told then, and
            whoever follows must not be.
        body: Of the message; how to read it is in the head.
    """

    letter: str
    handler: str
    reason: str
    attempts: int
    is_placed: bool
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Notice).decode


def notices(runtime: Runtime, row: DeadLetterRow, head: Head) -> list[Packet]:
    """Build the messages that tell handlers of a dead letter; none where nobody is told."""
    names = runtime.plan.told.get(runtime.plan.types.get(head.type, object), ())
    if not names or head.kind is not Kind.MESSAGE or row.is_forced:
        return []
    packet = row.packet
    told = msgspec.structs.replace(
        head,
        kind=Kind.DEAD,
        frames=(),
        attempts=Attempts(),
        sent_at_ms=runtime.clock.now_ms(),
    )
    try:
        message = runtime.codec.decode(head.type, head.type_version, head.codec, packet.body)
        addresses = [addressed(runtime.plan, name, message, told) for name in names]
    except RolekitError:
        return []
    notice = Notice(
        row.id, row.handler, row.reason, row.attempts, bool(head.frames), packet.body
    )
    return [
        Packet(
            queue=queue,
            id=derive(packet.id, packet.generation, "dead", name),
            head=encoded,
            body=_encode(notice),
        )
        for name, (queue, encoded) in zip(names, addresses, strict=True)
    ]


def notice_of(body: bytes) -> Notice:
    """Read what tells a handler of a dead letter.

    Raises:
        CodecError: It is no such thing.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CodecError(f"What tells of a dead letter cannot be read: {error}.") from error


def letter_of(runtime: Runtime, head: Head, body: bytes) -> DeadLetter[object]:
    """Build what a handler of `DeadLetter[M]` is given.

    Raises:
        CodecError: It cannot be read.
        UnknownType: Nobody here knows such a message (any more).
    """
    notice = notice_of(body)
    return DeadLetter(
        runtime.codec.decode(head.type, head.type_version, head.codec, notice.body),
        id=notice.letter,
        handler=notice.handler,
        reason=notice.reason,
        attempts=notice.attempts,
    )


async def is_replayed(store: Store, letter: str) -> bool:
    """Say whether the message of a dead letter goes again: nobody must answer for it."""
    found = await store.dead_letters(Letters(prefixes=(letter,), closed=True), limit=1)
    return bool(found) and found[0].closed_how == REPLAYED


def answered_by(head: Head, body: bytes) -> Notice | None:
    """Return what a message tells of, where it tells a handler of a dead letter."""
    if head.kind is not Kind.DEAD:
        return None
    try:
        return notice_of(body)
    except CodecError:
        return None


def with_body(head: Head, data: bytes, body: bytes) -> bytes:
    """Put the body of another message into what a handler is told, or in place of a message's.

    Raises:
        CodecError: It is no such thing.
    """
    if head.kind is not Kind.DEAD:
        return body
    return _encode(msgspec.structs.replace(notice_of(data), body=body))
