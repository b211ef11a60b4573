"""`rolekit up` of `many_app`, or another, on real servers, and how to look at it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Self

from rolekit.cli.client import GONE, Control
from rolekit.errors import ConfigError
from rolekit.supervisor.control import Scaled, ScaleOrder
from tests.patience import patient
from tests.process.supervised import ROOT, eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from rolekit.supervisor.status import RoleStatus

START_S = patient(30.0)


class Many:
    """A running supervisor of many instances; told to stop at the end.

    Args:
        home: Folder of its control socket, its log and what was handled.
        database: URL.
        broker: URL.
        patch: Sets the same environment for this process, whose client sends.
        app: Name of the app, in `tests.process.NAME_app`.
        command: Module that is run, and its arguments.
        settings: Further environment variables.
    """

    def __init__(
        self,
        home: Path,
        database: str,
        broker: str,
        patch: pytest.MonkeyPatch,
        app: str = "many",
        command: Sequence[str] = ("rolekit", "up"),
        **settings: str,
    ) -> None:
        self.home = home
        self._app = app
        self._command = command
        self.hits = home / "hits"
        self.hits.touch()
        self.sent = 0
        self._log = home / "up.log"
        environment = {
            "ROLEKIT_APP": f"tests.process.{app}_app:app",
            "ROLEKIT_DATABASE": database,
            "ROLEKIT_BROKER": broker,
            "ROLEKIT_HOME": str(home),
            "ROLEKIT_LOG": "info",
            "HITS": str(self.hits),
            **settings,
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.delenv("ROLEKIT_INSTANCES", raising=False)  # a size of tests, and no setting
        self._control = Control(home / f"{app}.sock")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *self._command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(START_S)
        finally:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        """Wait until it is up.

        Raises:
            AssertionError: It is not, in time; with its log.
        """
        try:
            eventually(lambda: f"{self._app} is up" in self.log, START_S)
        except TimeoutError:
            raise AssertionError(self.log) from None

    def start_again(self) -> None:
        """Start another supervisor; the one before has died."""
        self._log.unlink()
        self.process = self._start()
        self.wait_until_ready()

    def role(self, name: str) -> RoleStatus:
        """Ask for the state of a role."""
        return next(one for one in self._control.status().roles if one.role == name)

    def pids(self, role: str) -> list[int]:
        """Processes of a role that are ready."""
        places = self.role(role).places
        return [place.pid for place in places if place.pid and place.state == "ready"]

    def scale(self, role: str, count: int, within_s: float) -> None:
        """Scale; return when all are ready and no other is left."""
        self._control.order("/scale", ScaleOrder(role, str(count)), Scaled)

        def is_done() -> bool:
            try:
                found = self.role(role)
            except (*GONE, ConfigError):
                return False
            return found.ready == found.running == count

        eventually(is_done, within_s)

    @property
    def go(self) -> Path:
        """The file that lets go of what `Holder` holds."""
        return self.hits.with_name("hits.go")

    def send(self, count: int, kind: str = "Work") -> None:
        """Send so many more messages of this class."""
        arguments = ["-m", "tests.process.many_client", kind, str(self.sent), str(count)]
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)
        self.sent += count

    def sending(self, count: int, rate: int, kind: str = "Work") -> subprocess.Popen[bytes]:
        """Begin to send so many more, so many a second; end it with `wait`."""
        numbers = map(str, (self.sent, count, rate))
        self.sent += count
        return subprocess.Popen(
            [sys.executable, "-m", "tests.process.many_client", kind, *numbers], cwd=ROOT
        )

    def handled(self) -> list[tuple[int, int]]:
        """List what was handled so far: process id, number."""
        lines = self.hits.read_text().splitlines()
        return [(int(pid), int(number)) for pid, number in (line.split() for line in lines)]

    def numbers(self) -> set[int]:
        """Which numbers were handled."""
        return {number for _, number in self.handled()}
