"""mailflow in its containers: bring it up, look at it, break it, take it down."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.compose.engine import ROOT, Docker, Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PROJECT = "rolekit-compose-test"
READY_S = 240.0
KILL_ALL = "import os; os.kill(-1, 9)"
"""Ends all processes of a container but its first one, which then ends too."""
_PASSWORD = "PGPASSWORD=$(cat /run/secrets/admin_password)"  # noqa: S105 - read in there
_COUNT = f"{_PASSWORD} psql -h 127.0.0.1 -U postgres -d mailflow -tAc"


@dataclass(slots=True)
class Mailflow:
    """One project of Compose.

    Attributes:
        docker: The engine.
        overrides: Compose files over docker-compose.yml.
        secrets: Folder of the secrets.
    """

    docker: Docker
    overrides: Sequence[Path]
    secrets: Path

    def __post_init__(self) -> None:
        """Let each command mean this project."""
        files = [ROOT / "docker-compose.yml", *self.overrides]
        self.docker.environ |= {
            "MAILFLOW_SECRETS": str(self.secrets),
            "COMPOSE_PROJECT_NAME": PROJECT,
            "COMPOSE_FILE": ":".join(map(str, files)),
        }

    def up(self, *arguments: str) -> None:
        """Build and start everything, and wait until all is healthy.

        Raises:
            Failed: A container ended, or was not healthy in time; with the end of its log.
        """
        self.docker.compose("up", "-d", *arguments)
        self.until(self.is_healthy, "all containers are healthy")

    def is_healthy(self) -> bool:
        """Say whether every container that should run is healthy."""
        states = self._told_of(self.containers(), "{{.State.Status}} {{json .State.Health}}")
        checked = [state for state in states if not state.endswith(" null")]
        return bool(checked) and all(
            state.startswith("running ") and '"Status":"healthy"' in state for state in checked
        )

    def containers(self, service: str = "") -> list[str]:
        """Return ids, of one service or of all, in the order of their names."""
        found = self.docker.compose("ps", "-q", *([service] if service else []))
        return found.split()

    def restarts(self, service: str) -> int:
        """Count how often the engine started containers of a service again."""
        return sum(map(int, self._told_of(self.containers(service), "{{.RestartCount}}")))

    def kill9(self, containers: Sequence[str]) -> None:
        """Kill everything in containers; the engine starts them again."""
        for container in containers:
            self.docker.succeeds("exec", container, "python", "-c", KILL_ALL)

    def count(self, sql: str) -> int:
        """Ask the database for a number."""
        (database,) = self.containers("database")
        return int(self.docker.run("exec", database, "sh", "-c", f'{_COUNT} "{sql}"'))

    def until(self, is_so: Callable[[], bool], what: str, within_s: float = READY_S) -> None:
        """Look again and again: containers tell nobody.

        Raises:
            Failed: It did not become so in time; with what containers said last.
        """
        until_s = time.monotonic() + within_s
        while not is_so():
            if time.monotonic() > until_s:
                raise Failed(f"Not so in {within_s:.0f} s: {what}.\n{self.told()}")
            time.sleep(1)

    def told(self) -> str:
        """Return how the containers are, and what each said last."""
        return self.docker.compose("ps") + self.docker.compose("logs", "--no-color", "--tail=8")

    def down(self) -> None:
        """Remove everything, volumes too.

        Raises:
            Failed: Something of it is left.
        """
        self.docker.compose("down", "-v", "--remove-orphans")
        label = f"label=com.docker.compose.project={PROJECT}"
        for kind in (["ps", "-a"], ["volume", "ls"], ["network", "ls"]):
            if left := self.docker.run(*kind, "-q", "--filter", label):
                raise Failed(f"docker {' '.join(kind)} still has {left}.")

    def _told_of(self, containers: Sequence[str], template: str) -> list[str]:
        """Return a line for each container."""
        return self.docker.run("inspect", "--format", template, *containers).splitlines()
