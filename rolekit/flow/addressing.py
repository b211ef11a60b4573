"""Into which queue a message goes: its handler's, or that of its key's partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.model.envelope import Head, encode_head, keyed, plain
from rolekit.model.keys import key_of, partition_of, partition_queue

if TYPE_CHECKING:
    from rolekit.model.plan import AppPlan


def addressed(app: AppPlan, target: str, message: object, head: Head) -> tuple[str, bytes]:
    """Return the queue of a message to a handler, and its head, encoded.

    Raises:
        CodecError: It has no key, and the handler wants one; or the head is too large.
    """
    plan = app.handlers[target]
    if not plan.key:
        return target, encode_head(plain(head))
    key = key_of(message, plan.key)
    number = partition_of(key, app.partitions[plan.role])
    return partition_queue(plan.role, number), encode_head(keyed(head, target, key))
