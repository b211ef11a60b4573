"""rolekit: async message pipelines in which every message has exactly one recorded outcome.

Users import everything from here, and what belongs to one topic from `rolekit.web`,
`rolekit.guest`, `rolekit.testing` and `rolekit.errors`.
"""

# Loaded when it is first asked for: `rolekit ps --ready`, which containers run again and
# again, needs none of it, and took 0.5 s of CPU instead of 0.05 (November 2026).

from typing import TYPE_CHECKING

from rolekit.late import loader

if TYPE_CHECKING:
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

_MODULES = {
    "rolekit.errors": ("Reject", "Retry"),
    "rolekit.flow.client": ("Client",),
    "rolekit.flow.context": ("Context",),
    "rolekit.model.message": (
        "Blob",
        "Message",
        "Receipt",
        "Reply",
        "Secret",
        "State",
        "field",
    ),
    "rolekit.model.parts": ("Batch", "DeadLetter", "Hole", "Run"),
    "rolekit.model.policy": ("Backoff", "Circuit", "Rate", "Scale"),
    "rolekit.roles.app": ("App",),
    "rolekit.roles.declare": ("cron", "every", "gather", "handle"),
    "rolekit.roles.vm": ("VMRole",),
    "rolekit.roles.web": ("WebRole",),
    "rolekit.roles.worker": ("WorkerRole",),
}


if not TYPE_CHECKING:  # or a type checker would believe any name
    __getattr__, __dir__ = loader(__name__, _MODULES)
