"""What a fleet is told at its start."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolekit.model.restart import RestartPolicy
from rolekit.supervisor.instance import Patience

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolekit.supervisor.slot import Hear, Observed


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a fleet is told at its start.

    Attributes:
        settings: By role name.
        sockets: Bound and listening, by role name; of a WebRole followed by the pair in which
            instances pass on connections.
        doors: To the launcher of containers, by the name of roles that have any.
        grace_s: Seconds a soft stop may take, all roles together.
        hear: Takes over the pipes into which instances print; see `slot.Crew`.
        spans: Collects what instances tell of themselves; None: nobody does.
    """

    settings: Mapping[str, Mapping[str, str]]
    sockets: Mapping[str, tuple[socket.socket, ...]] = field(
        default_factory=dict[str, tuple[socket.socket, ...]]
    )
    doors: Mapping[str, socket.socket] = field(default_factory=dict[str, socket.socket])
    grace_s: float = 20
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    patience: Patience = field(default_factory=Patience)
    hear: Hear
    spans: Observed | None = None
