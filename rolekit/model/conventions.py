"""What OpenTelemetry's messaging conventions want to be said with each of their metrics.

It is the same for all that a process counts, so instances do not say it: whoever collects
their numbers adds it.

Source: OpenTelemetry's "Semantic conventions for messaging client metrics", and "General
attributes" for those of servers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import msgspec

if TYPE_CHECKING:
    from rolekit.model.sample import Sample

_OPERATIONS = {
    "messaging.process.duration": "process",
    "messaging.client.sent.messages": "send",
    "messaging.client.consumed.messages": "receive",
}
_PORTS = {"amqp": 5672, "amqps": 5671, "postgresql": 5432, "postgres": 5432}
Server = tuple[tuple[str, str | int], ...]


class Naming(msgspec.Struct, frozen=True):
    """How the messages of an app travel.

    Attributes:
        system: What carries them, as OpenTelemetry calls it.
        prefix: Of queues there.
        queues: Those that belong to one handler, and have its name.
        server: Attributes that say where that is; empty: several places, or nobody knows.
    """

    system: str = "postgresql"
    prefix: str = ""
    queues: frozenset[str] = frozenset()
    server: Server = ()

    def named(self, sample: Sample) -> Sample:
        """Add to a sample what the conventions want; to one of rolekit's own, nothing."""
        if not sample.name.startswith("messaging."):
            return sample
        labels = dict(sample.labels)
        labels["messaging.system"] = self.system
        done = labels.pop("operation", None) or _OPERATIONS.get(sample.name)
        if done is not None:
            labels["messaging.operation.name"] = done
        if done != "commit" or self.system == "postgresql":  # which the database does
            labels.update((name, str(value)) for name, value in self.server)
        handler = labels.get("handler")
        if handler is not None:
            labels["messaging.destination.template"] = handler
            if handler in self.queues:
                labels["messaging.destination.name"] = f"{self.prefix}{handler}"
        return msgspec.structs.replace(sample, labels=tuple(sorted(labels.items())))


def naming(broker: str, database: str, app: str, queues: frozenset[str]) -> Naming:
    """Say how the messages of an app travel.

    Args:
        broker: URL of its queues; empty: they are in its database.
        database: URL of that.
        app: Its name.
        queues: Of its handlers.
    """
    if broker.startswith(("amqp://", "amqps://")):
        return Naming("rabbitmq", f"{app}.", queues, server_of(broker))
    return Naming(queues=queues, server=server_of(broker or database))


def server_of(url: str) -> Server:
    """Say which server a URL names, as attributes; one that names several says none of them."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # several, each with a port
        return ()
    given = parse_qs(parts.query)
    host = host or given.get("host", [""])[0]
    if not host or "," in host or "," in parts.netloc:
        return ()
    if host.startswith("/"):  # a Unix socket has no port
        return (("server.address", host),)
    port = port or _PORTS.get(parts.scheme)
    more = (("server.port", port),) if port else ()
    return (("server.address", host), *more)
