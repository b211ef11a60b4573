"""A mailbox as an mbox file, which is what old programs read."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from examples.mailflow import boxes

if TYPE_CHECKING:
    from rolekit.flow.context import Transaction

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)


async def mbox(tx: Transaction, owner: str) -> bytes:
    """Return the latest mails of a mailbox, the oldest of them first, cut behind 8 kB each.

    Source: RFC 4155; lines that begin with "From " are quoted as in its variant "mboxrd".
    """
    items = await boxes.items(tx, owner, before=sys.maxsize)
    return b"".join(map(entry, reversed(items[: boxes.PAGE])))


def entry(item: boxes.Item) -> bytes:
    """Return one mail of an mbox file."""
    sender = re.sub(r"\s", "", item.sender) or "MAILER-DAEMON"
    first = f"From {sender} {item.delivered_at:%a %b %d %H:%M:%S %Y}\n"
    return first.encode() + _FROM.sub(rb">\1", item.top) + b"\n\n"
