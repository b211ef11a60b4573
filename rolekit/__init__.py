"""rolekit: async message pipelines in which every message has exactly one recorded outcome.

Users import everything from here, and what belongs to one topic from `rolekit.web`,
`rolekit.guest`, `rolekit.testing` and `rolekit.errors`.
"""

from rolekit.errors import Reject, Retry
from rolekit.flow.client import Client
from rolekit.flow.context import Context
from rolekit.model.message import Blob, Message, Receipt, Reply, Secret, State
from rolekit.model.message import field as field
from rolekit.model.parts import Batch, DeadLetter, Hole, Run
from rolekit.model.policy import Backoff, Circuit, Rate, Scale
from rolekit.roles.app import App
from rolekit.roles.declare import cron, every, gather, handle
from rolekit.roles.vm import VMRole
from rolekit.roles.web import WebRole
from rolekit.roles.worker import WorkerRole

__all__ = [
    "App",
    "Backoff",
    "Batch",
    "Blob",
    "Circuit",
    "Client",
    "Context",
    "DeadLetter",
    "Hole",
    "Message",
    "Rate",
    "Receipt",
    "Reject",
    "Reply",
    "Retry",
    "Run",
    "Scale",
    "Secret",
    "State",
    "VMRole",
    "WebRole",
    "WorkerRole",
    "cron",
    "every",
    "gather",
    "handle",
]
