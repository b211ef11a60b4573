"""What of an app runs in containers: one part for each role, with its settings and secrets.

Engines differ in how they write it down; what is to run is the same for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOME = "/run/rolekit"
SECRETS = "/run/secrets"
USER = 10001
"""As in deploy/Dockerfile: a user without rights."""
WAIT_S = 60
"""For database and broker to answer; then the engine starts the container again."""
READY = ("rolekit", "ps", "--ready")
CHECK_S = 15
CHECKS = 3

MOST_CHARACTERS = 63
"""Of a name in DNS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One role, in containers of its own.

    Attributes:
        role: Its class name.
        name: The same as engines and DNS want it.
        is_web: Takes HTTP.
        port: Where it listens in its container; None: nowhere.
        replicas: How many containers.
        environment: Settings by variable.
        secrets: Variables of settings that are not to be written down, by the secret's name.
        memory_mb: What a container may take.
        pids: Processes and threads that it may have.
        start_s: An instance is ready after so long at most.
    """

    role: str
    name: str
    is_web: bool
    port: int | None
    replicas: int
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    memory_mb: int
    pids: int
    start_s: float

    @property
    def ready_s(self) -> int:
        """How long a container may take until it is ready."""
        return math.ceil(WAIT_S + self.start_s)

    @property
    def arguments(self) -> list[str]:
        """What rolekit is told."""
        return ["up", "--wait", str(WAIT_S), "--role", self.role]

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a container, secrets by the files that they are in."""
        files = {f"{name}_FILE": f"{SECRETS}/{secret}" for secret, name in self.secrets.items()}
        return {**self.environment, **files}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """An app in containers.

    Attributes:
        name: Of the app, as engines and DNS want it.
        image: That all containers are made of.
        stop_s: What a container gets to stop.
        control_port: Where the control API answers with a token, or None.
        parts: In the order of the app.
    """

    name: str
    image: str
    stop_s: int
    control_port: int | None
    parts: tuple[Part, ...]

    @property
    def secrets(self) -> list[str]:
        """Names of all secrets."""
        return list(dict.fromkeys(secret for part in self.parts for secret in part.secrets))
