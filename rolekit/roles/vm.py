"""The role that puts an existing program to work."""

from __future__ import annotations

from rolekit.roles.worker import WorkerRole


class VMRole(WorkerRole):
    """A worker with at least one `Guest`: a program that will not be rewritten."""
