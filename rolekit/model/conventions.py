"""What OpenTelemetry's messaging conventions want to be said with each of their metrics.

It is the same for all that a process counts, so instances do not say it: whoever collects
their numbers adds it.

Source: OpenTelemetry's "Semantic conventions for messaging client metrics".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from rolekit.model.sample import Sample

_OPERATIONS = {
    "messaging.process.duration": "process",
    "messaging.client.sent.messages": "send",
    "messaging.client.consumed.messages": "receive",
}


class Naming(msgspec.Struct, frozen=True):
    """How the messages of an app travel.

    Attributes:
        system: What carries them, as OpenTelemetry calls it.
        prefix: Of queues there.
        queues: Those that belong to one handler, and have its name.
    """

    system: str = "postgresql"
    prefix: str = ""
    queues: frozenset[str] = frozenset()

    def named(self, sample: Sample) -> Sample:
        """Add to a sample what the conventions want; to one of rolekit's own, nothing."""
        if not sample.name.startswith("messaging."):
            return sample
        labels = dict(sample.labels)
        labels["messaging.system"] = self.system
        done = labels.pop("operation", None) or _OPERATIONS.get(sample.name)
        if done is not None:
            labels["messaging.operation.name"] = done
        handler = labels.get("handler")
        if handler is not None:
            labels["messaging.destination.template"] = handler
            if handler in self.queues:
                labels["messaging.destination.name"] = f"{self.prefix}{handler}"
        return msgspec.structs.replace(sample, labels=tuple(sorted(labels.items())))


def naming(broker: str, app: str, queues: frozenset[str]) -> Naming:
    """Say how the messages of an app travel.

    Args:
        broker: URL of its queues; empty: they are in its database.
        app: Its name.
        queues: Of its handlers.
    """
    if broker.startswith(("amqp://", "amqps://")):
        return Naming("rabbitmq", f"{app}.", queues)
    return Naming(queues=queues)
