"""Queues of other programs that a handler takes from: looked at, never made.

Source: DESIGN 4.4; RELIABILITY H9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from rolekit.errors import ConfigError
from rolekit.transport.rabbitmq.access import check_read
from rolekit.transport.rabbitmq.counting import count
from rolekit.transport.rabbitmq.plan import look_at_source

if TYPE_CHECKING:
    from rolekit.transport.rabbitmq.session import Session

log = structlog.get_logger("rolekit.rabbitmq")


async def check_source(session: Session, handler: str, name: str) -> None:
    """Make sure that another program's queue is there and may be consumed.

    How it would lose messages is logged: it is for its owner to decide.

    Raises:
        ConfigError: It is not there, or this user may not consume it.
    """
    if await count(session, name) is None:
        raise ConfigError(
            f"{handler} takes its messages from the queue {name}, which is not on the broker. "
            "It is another program's, so rolekit does not make it.",
            fix=f"Start the program that declares it, or correct source={name!r}.",
        )
    await check_read(session, [name])
    dangers = (await look_at_source(session, name)).dangers
    if dangers:
        log.warning(
            "a queue of another program may lose messages; its owner can change that",
            queue=name,
            handler=handler,
            how="; ".join(dangers),
        )
