"""The queues of an app as an AsyncAPI 3.0 document.

    channel     a queue: of a handler, of the partitions of a role's keys, of another program
                or app; and the one that answers go to
    receive     a handler takes from its channel
    send        a handler gives messages to another one's
    message     a class, by its wire name

What a WebRole, a script or another program sends is in no document: nothing declares it.

Source: AsyncAPI Specification 3.0.0; AMQP bindings 0.3.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.model.message import Reply, wire_of
from rolekit.schema.fields import Document, as_draft_7, schemas_of
from rolekit.schema.naming import Keys, summary
from rolekit.transport.base import INBOUND, outside_queue
from rolekit.transport.rabbitmq.topology import Names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.model.plan import AppPlan, HandlerPlan
    from rolekit.roles.app import App

VERSION = "3.0.0"
_BINDING = "0.3.0"
_HEADERS = "rolekit.headers"
_DESCRIPTION = (
    "What the handlers of this app take and send. Channels are queues, called here as on "
    "RabbitMQ; without a broker they are rows in Postgres. Another program may publish to the "
    "queue of a handler through the default exchange, or to a queue that a handler takes from: "
    "the property `type` names the message (a handler that takes only one needs none), with "
    "`message-id` it takes effect once, and headers that are text travel on. What rolekit "
    "itself sends has the content type application/rolekit: a head of its own, then the "
    "payload. Replies, partitions and `in` are for it alone."
)


def document(app: App, *, release: str) -> Document:
    """Describe an app.

    Args:
        app: Without problems.
        release: Of the app, as people number it.

    Raises:
        AppError: It has problems, or a message that cannot be described.
        ConfigError: A handler is called what no queue on a broker can be called.
    """
    return _Writer(app).document(release)


class _Writer:
    """A document under the pen."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._plan: AppPlan = app.plan()
        self._names = Names(self._plan.name)
        self._message_keys, self._channel_keys, self._operation_keys = Keys(), Keys(), Keys()
        self._messages: Document = {}
        self._channels: Document = {}
        self._operations: Document = {}
        self._refs, self._schemas = schemas_of(self._plan.wire_names, Keys())

    def document(self, release: str) -> Document:
        for handler in self._plan.handlers.values():
            self._receive(handler)
        self._receive_from_apps()
        for handler in self._plan.handlers.values():
            self._send(handler)
        return {
            "asyncapi": VERSION,
            "id": f"urn:rolekit:{self._plan.name}",
            "info": {
                "title": self._plan.name,
                "version": release,
                "description": _DESCRIPTION,
            },
            "defaultContentType": f"application/{self._plan.codec}",
            "channels": self._channels,
            "operations": self._operations,
            "components": {
                "messages": self._messages,
                "schemas": as_draft_7(self._schemas) | {_HEADERS: _headers()},
            },
        }

    # -- messages

    def _message(self, cls: type, *, is_dead: bool = False) -> str:
        """Return the key of a message; the first time, describe it."""
        wire, name = wire_of(cls), self._plan.wire_names[cls]
        key = self._message_keys.of(f"{name}.dead" if is_dead else name, by=str(is_dead))
        if key in self._messages:
            return key
        said: Document = {
            "name": name,
            "title": f"Dead letter of {cls.__name__}" if is_dead else cls.__name__,
            "contentType": f"application/{self._plan.codec}",
            "headers": {"$ref": f"#/components/schemas/{_HEADERS}"},
            "payload": self._refs[cls],
            "bindings": {"amqp": {"messageType": name, "bindingVersion": _BINDING}},
            "x-rolekit": {"version": wire.version, "aliases": list(wire.aliases)},
        }
        if is_dead:
            said["summary"] = f"Tells that a {cls.__name__} will not be handled."
        elif summary(cls):
            said["summary"] = summary(cls)
        self._messages[key] = said
        return key

    def _add(self, channel: str, messages: Iterable[str]) -> list[Document]:
        """Let messages travel on a channel; return how an operation refers to them."""
        there: Document = self._channels[channel].setdefault("messages", {})
        keys = list(dict.fromkeys(messages))
        there |= {key: {"$ref": f"#/components/messages/{key}"} for key in keys}
        return [{"$ref": f"#/channels/{channel}/messages/{key}"} for key in keys]

    # -- channels

    def _channel_of(self, handler: HandlerPlan) -> str:
        if handler.key:
            return self._partitions(handler.role)
        queue = self._names.of(handler.name)
        return self._channel(handler.name, queue, f"What {handler.name} takes.")

    def _partitions(self, role: str) -> str:
        queues = [self._names.of(queue) for queue in self._plan.partition_queues(role)]
        start = queues[0].removesuffix("k00")
        key = self._channel(
            f"{role}.partitions",
            f"{start}{{partition}}",
            f"What the keyed handlers of {role} take; the key of a message says where.",
        )
        self._channels[key]["parameters"] = {
            "partition": {
                "description": "Number of the partition.",
                "enum": [queue.removeprefix(start) for queue in queues],
            }
        }
        return key

    def _channel(
        self, name: str, address: str | None, title: str, *, is_ours: bool = True
    ) -> str:
        key = self._channel_keys.of(name)
        queue: Document = {}
        if address is not None and "{" not in address:
            queue["name"] = address
        if is_ours:
            queue |= {"durable": True, "autoDelete": False, "exclusive": False}
        self._channels.setdefault(
            key,
            {
                "address": address,
                "title": title,
                "messages": {},
                "bindings": {
                    "amqp": {"is": "queue", "queue": queue, "bindingVersion": _BINDING}
                },
            },
        )
        return key

    # -- operations

    def _receive(self, handler: HandlerPlan) -> None:
        taken = [self._message(cls) for cls in handler.takes]
        told = [self._message(cls, is_dead=True) for cls in handler.dead]
        self._operation(handler.name, self._channel_of(handler), [*taken, *told], handler)
        if handler.reads_from:
            source = handler.reads_from
            title = "The queue of another program."
            channel = self._channel(f"from.{source}", source, title, is_ours=False)
            self._operation(f"{handler.name}.from.{source}", channel, taken, handler)

    def _operation(
        self, name: str, channel: str, messages: list[str], handler: HandlerPlan
    ) -> None:
        said: Document = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{channel}"},
            "title": handler.name,
            "tags": [{"name": handler.role}],
            "messages": self._add(channel, messages),
            "bindings": {"amqp": {"ack": True, "bindingVersion": _BINDING}},
            "x-rolekit": _facts(handler, self._plan),
        }
        text = summary(getattr(self._app.role(handler.role), handler.method))
        if text:
            said["summary"] = text
        answers = [self._message(cls) for cls in handler.returns if issubclass(cls, Reply)]
        if answers:
            replies = self._replies()
            said["reply"] = {
                "channel": {"$ref": f"#/channels/{replies}"},
                "messages": self._add(replies, answers),
            }
        self._operations[self._operation_keys.of(name)] = said

    def _replies(self) -> str:
        title = "Answers, to whoever asks; made by the one who asks, and gone with it."
        return self._channel("replies", None, title)

    def _receive_from_apps(self) -> None:
        """Describe the queue that other apps send to; each message goes on to its handlers."""
        if not self._plan.destinations:
            return
        title = "What other apps send; it goes on to each handler that takes it."
        channel = self._channel("in", self._names.of(INBOUND), title)
        taken = [self._message(cls) for cls in self._plan.destinations]
        self._operations[self._operation_keys.of("in")] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{channel}"},
            "title": "From other apps",
            "messages": self._add(channel, taken),
            "bindings": {"amqp": {"ack": True, "bindingVersion": _BINDING}},
        }

    def _send(self, handler: HandlerPlan) -> None:
        by_channel: dict[str, list[str]] = {}
        for cls in dict.fromkeys((*handler.returns, *handler.sends)):
            for channel in self._takers(cls):
                by_channel.setdefault(channel, []).append(self._message(cls))
        for channel, messages in by_channel.items():
            key = self._operation_keys.of(f"{handler.name}.to.{channel}")
            self._operations[key] = {
                "action": "send",
                "channel": {"$ref": f"#/channels/{channel}"},
                "title": handler.name,
                "tags": [{"name": handler.role}],
                "messages": self._add(channel, messages),
                "bindings": {
                    "amqp": {
                        "deliveryMode": 2,
                        "mandatory": True,
                        "bindingVersion": _BINDING,
                    }
                },
            }

    def _takers(self, cls: type) -> list[str]:
        """Return the channels that a message of this class goes to."""
        plan = self._plan
        found = [
            self._channel_of(plan.handlers[name]) for name in plan.destinations.get(cls, ())
        ]
        if cls in plan.outside:
            other = plan.outside[cls]
            queue = self._names.of(outside_queue(other))
            found.append(self._channel(f"to.{other}", queue, f"What the app {other} takes."))
        return list(dict.fromkeys(found))


def _facts(handler: HandlerPlan, plan: AppPlan) -> Document:
    """Say of a handler what AsyncAPI has no word for."""
    found: Document = {"kind": handler.kind, "timeout_s": handler.timeout_s}
    if handler.key:
        found["key"] = list(handler.key)
    if handler.batch:
        found["batch"] = handler.size
    if handler.timing is not None:
        found["schedule"] = handler.timing.text
    if handler.kind == "gather":
        found["ordered"] = handler.ordered
        if handler.source is not None:
            found["gathers"] = plan.wire_names[handler.source]
    return found


def _headers() -> Document:
    text = {"type": "string"}
    return {
        "title": "Headers",
        "description": "Text; they travel on to everything that a message causes.",
        "type": "object",
        "properties": {
            "traceparent": text | {"description": "W3C Trace Context."},
            "tracestate": text | {"description": "W3C Trace Context."},
            "baggage": text | {"description": "W3C Baggage."},
        },
    }
