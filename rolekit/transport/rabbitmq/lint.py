"""What makes a broker delete messages by design, and whether a queue is set up for it.

Works on queues as data: on those that rolekit declares, and on those that are there, as far
as the broker tells how they differ. Policies are not seen: AMQP does not tell them.

Source: RELIABILITY H9, H10; PITFALLS 1.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.errors import ConfigError
from rolekit.transport.rabbitmq import topology

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rolekit.transport.rabbitmq.topology import Queue

_TYPES = ("quorum", "classic", None)


def lint(queue: Queue) -> list[str]:
    """Say how this queue would lose messages without a word; empty: in no way known."""
    return [*_lifetime(queue), *_expiry(queue), *_length(queue), *_deliveries(queue)]


def refuse_dangers(queues: Iterable[Queue]) -> None:
    """Refuse to make a queue that would lose messages.

    Raises:
        ConfigError: One would.
    """
    for queue in queues:
        found = lint(queue)
        if found:
            raise ConfigError(
                f"Queue {queue.name} would lose messages without a word: {'; '.join(found)}.",
                fix="This is a mistake in rolekit's own topology; please report it.",
            )


def _lifetime(queue: Queue) -> Iterator[str]:
    if not queue.durable:
        yield "durable is false: a restart of the broker deletes it, and 4.3 refuses it"
    if queue.auto_delete:
        yield "auto_delete is true: it goes with its last consumer"
    if queue.exclusive:
        yield "exclusive is true: it goes with the connection that made it"


def _expiry(queue: Queue) -> Iterator[str]:
    ttl = queue.arguments.get("x-message-ttl")
    if ttl is not None:
        yield f"x-message-ttl is {ttl}: messages that wait longer are dropped"
    expires = queue.arguments.get("x-expires")
    if expires is not None and queue.kind != "reply":
        yield f"x-expires is {expires}: unused for so long, it goes with all its messages"


def _length(queue: Queue) -> Iterator[str]:
    overflow = queue.arguments.get("x-overflow")
    for name in ("x-max-length", "x-max-length-bytes"):
        limit = queue.arguments.get(name)
        if limit is not None and overflow != "reject-publish":
            yield (
                f"{name} is {limit} and x-overflow {overflow or 'drop-head'}: what is too "
                "much is dropped; reject-publish tells its sender"
            )
    if overflow not in (None, "reject-publish") and not _has_length(queue):
        yield f"x-overflow is {overflow}: a policy with a length drops; use reject-publish"


def _has_length(queue: Queue) -> bool:
    return not {"x-max-length", "x-max-length-bytes"}.isdisjoint(queue.arguments)


def _deliveries(queue: Queue) -> Iterator[str]:
    kind = queue.arguments.get("x-queue-type")
    if kind not in _TYPES:
        yield f"x-queue-type is {kind}: it drops what is old, whether handled or not"
    if kind != "quorum":
        return
    limit = queue.arguments.get("x-delivery-limit")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        yield (
            f"x-delivery-limit is {'not set' if limit is None else limit}: RabbitMQ 4 then "
            "drops what was delivered 20 times"
        )
        return
    if queue.kind == "dead":
        if limit < topology.NO_LIMIT:
            yield f"x-delivery-limit is {limit}: no queue is behind this one to take the rest"
        return
    if limit < topology.DELIVERY_LIMIT:
        yield f"x-delivery-limit is {limit}: restarts eat up what is so low"
    yield from _dead_lettering(queue)


def _dead_lettering(queue: Queue) -> Iterator[str]:
    given = queue.arguments
    if given.get("x-dead-letter-exchange") is None:
        yield "x-dead-letter-exchange is not set: what was delivered too often is dropped"
        return
    if not given.get("x-dead-letter-routing-key"):
        yield "x-dead-letter-routing-key is not set: dead letters go back to where they died"
    if given.get("x-dead-letter-strategy") != "at-least-once":
        yield "x-dead-letter-strategy is not at-least-once: dead letters may get lost"
    if given.get("x-overflow") != "reject-publish":
        yield "x-overflow is not reject-publish: without it, dead letters may get lost"
