"""Where queues are: RabbitMQ, or the database; apart from `parts`, which loads roles.

A supervisor needs no role: it asks for queues, and makes them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rolekit.transport.rabbitmq import RabbitTransport
    from rolekit.transport.rabbitmq.topology import QueueType

BROKER_FILE = "ROLEKIT_BROKER_FILE"
"""Names a file with the URL of the broker, which is read anew for each connection."""


def joins_store(database: str, broker: str) -> bool:
    """Whether queues and state are in one database, so that a commit takes both."""
    return not broker or broker == database


def rabbit_transport(
    app: str,
    broker: str,
    *,
    sole_types: Mapping[str, str] | None = None,
    sources: Mapping[str, str] | None = None,
    made: Iterable[str] = (),
) -> RabbitTransport:
    """Make the transport to a RabbitMQ broker; the driver is imported only here."""
    from rolekit.transport.rabbitmq import RabbitTransport  # noqa: PLC0415 - 60 ms for nothing
    from rolekit.transport.rabbitmq.address import UrlFile  # noqa: PLC0415 - likewise

    file = os.environ.get(BROKER_FILE)
    return RabbitTransport(
        UrlFile(broker, Path(file)) if file else broker,
        app=app,
        queue_type=_queue_type(),
        sole_types=sole_types,
        sources=sources,
        made=made,
        is_plain=os.environ.get("ROLEKIT_RABBITMQ_PLAIN") == "1",
    )


def refuse_sources(sources: Mapping[str, str]) -> None:
    """Refuse to take from another program's queue where there is no broker to share.

    Raises:
        ConfigError: A handler takes from one.
    """
    for handler, source in sources.items():
        raise ConfigError(
            f"{handler} takes its messages from the queue {source} of another program, and "
            "there is no RabbitMQ: messages travel through Postgres.",
            fix="Name the broker that has it: ROLEKIT_BROKER=amqp://…",
        )


def _queue_type() -> QueueType:
    found = os.environ.get("ROLEKIT_QUEUE_TYPE", "quorum")
    if found == "quorum":
        return "quorum"
    if found == "classic":
        return "classic"
    raise ConfigError(
        f"ROLEKIT_QUEUE_TYPE is {found!r}; quorum or classic is expected.",
        fix="Leave it out for quorum queues, which survive the loss of a broker node.",
    )
