"""A supervisor of `fleet_main.py` as a process, and how to look at it from outside."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
import msgspec

from rolekit.supervisor.status import FleetStatus, RoleStatus
from rolekit.supervisor.usage import FleetUsage
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def eventually(is_so: Callable[[], bool], within_s: float = 8) -> None:
    """Look again and again: another process tells nobody when it is done.

    Args:
        is_so: What to look at.
        within_s: How long it takes at most where no others are at work.
    """
    until = time.monotonic() + patient(within_s)
    while not is_so():
        if time.monotonic() > until:
            raise TimeoutError(f"not so within {patient(within_s):g} s")
        time.sleep(0.02)


class Supervised:
    """A running supervisor; killed with all its descendants at the end."""

    def __init__(self, app: str, home: Path, *roles: str, **numbers: float) -> None:
        self.app = app
        self.home = home
        self.lines: list[str] = []
        options = [f"{name}={value}" for name, value in numbers.items()]
        self.process = subprocess.Popen(
            [sys.executable, "fleet_main.py", app, str(home), *options, *roles],
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{home}", "PYTHONWARNINGS": "default"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._seen: dict[int, Descendant] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(home / f"{app}.sock")), base_url="http://x"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self.descendants()
        self.process.kill()
        self.process.wait()
        for one in self._seen.values():
            one.kill()
            os.close(one.pidfd)
        while self._reader.is_alive():
            self._end_who_still_writes()
            self._reader.join(0.2)

    def _end_who_still_writes(self) -> None:
        """Kill what was started after the last look: it alone has this pipe for its output."""
        assert self.process.stdout is not None
        with suppress(ValueError, OSError):  # closed meanwhile: nobody writes any more
            pipe = Path(f"/proc/self/fd/{self.process.stdout.fileno()}").readlink()
            for folder in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    if int(folder.name) == os.getpid() or (folder / "fd/1").readlink() != pipe:
                        continue
                    held = os.pidfd_open(int(folder.name))
                    try:
                        if (folder / "fd/1").readlink() == pipe:
                            signal.pidfd_send_signal(held, signal.SIGKILL)
                    finally:
                        os.close(held)

    @property
    def output(self) -> str:
        """All it printed so far."""
        return "\n".join(self.lines)

    def wait_for_line(self, text: str, within_s: float = 12) -> None:
        """Wait until it printed this."""
        eventually(lambda: text in self.output, within_s)

    def wait(self, within_s: float = 10) -> int:
        """Wait for its end; return the exit code."""
        code = self.process.wait(patient(within_s))
        self._reader.join()
        return code

    def status(self) -> FleetStatus:
        """Ask it."""
        return msgspec.json.decode(self._http.get("/ps").content, type=FleetStatus)

    def usage(self) -> FleetUsage:
        """Ask what it uses."""
        return msgspec.json.decode(self._http.get("/top").content, type=FleetUsage)

    def role(self, name: str) -> RoleStatus:
        """Ask it about one role."""
        return next(role for role in self.status().roles if role.role == name)

    def post(self, path: str, body: str) -> httpx.Response:
        """Tell it something."""
        return self._http.post(path, content=body)

    def get(self, path: str) -> httpx.Response:
        """Ask it something."""
        return self._http.get(path)

    def pids(self, role: str) -> list[int]:
        """Processes of a role."""
        return [place.pid for place in self.role(role).places if place.pid is not None]

    def descendants(self) -> list[Descendant]:
        """All processes below it."""
        if self.process.poll() is None:
            parents = _parents()
            family = {self.process.pid}
            while more := {pid for pid, parent in parents.items() if parent in family} - family:
                family |= more
            for pid in family - {self.process.pid} - set(self._seen):
                with suppress(ProcessLookupError):
                    self._seen[pid] = Descendant(pid, parents[pid], os.pidfd_open(pid))
        return [one for one in self._seen.values() if one.is_alive]

    def released(self) -> list[int]:
        """Owners whose work the database was asked to take back."""
        log = self.home / "host.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [int(line.split()[1]) for line in lines]

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self.lines.append(line.rstrip("\n"))


@dataclass(frozen=True, slots=True)
class Descendant:
    """A process below the supervisor, held by its pidfd so that it can be no other."""

    pid: int
    parent: int
    pidfd: int

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not select.select([self.pidfd], [], [], 0)[0]

    def kill(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


def _parents() -> dict[int, int]:
    """Read the parent of every process."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
    return parents
