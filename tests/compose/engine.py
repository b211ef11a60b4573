"""The engine that `make compose-test` runs on, as its command-line clients see it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.engine import NoEngine, PrivateEngine, find
from tests.servers import install

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

ROOT = Path(__file__).parents[2]
SAID_BYTES = 4000


class Failed(Exception):
    """A command failed; with what it said."""


class Docker:
    """Docker's client, and Compose's, on one engine; tells what takes how long."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = {**os.environ, **environ}
        self._begun_s = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line, with the seconds since the start."""
        print(f"[{time.monotonic() - self._begun_s:5.0f} s] {line}", flush=True)  # noqa: T201

    def run(self, *arguments: str) -> str:
        """Run a command of the client; return what it prints.

        Raises:
            Failed: It failed.
        """
        return self.end(self.begin(*arguments)).strip()

    def succeeds(self, *arguments: str) -> bool:
        """Say whether a command succeeds."""
        with contextlib.suppress(Failed):
            self.run(*arguments)
            return True
        return False

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of the client; `end` waits for it."""
        return self._begin([find("docker"), *arguments])

    def end(self, process: subprocess.Popen[str]) -> str:
        """Wait for a command; return what it printed.

        Raises:
            Failed: It failed.
        """
        out, errors = process.communicate()
        if process.returncode:
            said = (out + errors)[-SAID_BYTES:]
            command = process.args if isinstance(process.args, list) else [process.args]
            raise Failed(
                f"{' '.join(map(str, command))} ended with {process.returncode}: {said}"
            )
        return out

    def compose(self, *arguments: str) -> str:
        """Run a command of Compose; return what it prints.

        Raises:
            Failed: It failed.
        """
        return self.end(self.begin_compose(*arguments))

    def begin_compose(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of Compose; `end` waits for it."""
        return self._begin([*self._compose(), *arguments])

    def _begin(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environ, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def _compose(self) -> list[str]:
        """Return Compose v2 where the client has it, and docker-compose elsewhere."""
        if self.succeeds("compose", "version"):
            return [find("docker"), "compose"]
        if shutil.which("docker-compose") is None:
            install("docker-compose")
        found = shutil.which("docker-compose")
        if found is None:
            raise NoEngine("There is neither `docker compose` nor docker-compose: install one.")
        return [found]


@contextlib.contextmanager
def engine() -> Generator[Docker]:
    """Use the engine that answers on this machine; start one for as long as needed elsewhere.

    Raises:
        NoEngine: None can be had; says why.
    """
    there = Docker({})
    if there.succeeds("info"):
        yield there
        return
    with PrivateEngine(networks=True) as private:
        yield Docker({"DOCKER_HOST": private.url, "DOCKER_BUILDKIT": "0"})
