"""Where a guest lives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """A process group of its own, with resource limits."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A file system of its own, read-only, without network.

    Attributes:
        root: What the guest sees as /.
    """

    root: str = "/"
