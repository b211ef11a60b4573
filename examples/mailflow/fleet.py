"""Starting mailflow as a user would: `rolekit up`, on a home of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec

from examples.mailflow.load import Target

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

APP = "examples.mailflow.app:app"
CONTROL = "mailflow.sock"
"""Where its supervisor answers, in its home."""
ROOT = Path(__file__).parents[2]
READY_S = 60.0
STOP_S = 30.0


class NotStarted(Exception):
    """`rolekit up` ended, or was not ready in time; the text has the end of its log."""


class PlaceView(msgspec.Struct):
    """What is read here of one instance."""

    pid: int | None = None


class RoleView(msgspec.Struct):
    """What the demo reads of one role in `rolekit ps --json`."""

    role: str
    state: str
    ready: int
    instances: int
    address: str = ""
    why: str = ""
    places: list[PlaceView] = []


class FleetView(msgspec.Struct):
    """What the demo reads of `rolekit ps --json`."""

    state: str
    roles: list[RoleView]


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where a fleet lives.

    Attributes:
        folder: For the embedded database and the control socket.
        database: URL; empty: the embedded one.
        settings: Environment variables over those that are there.
    """

    folder: Path
    settings: Mapping[str, str]
    database: str = ""

    @property
    def log(self) -> Path:
        """Where `rolekit up` writes."""
        return self.folder / "up.log"

    def environment(self) -> dict[str, str]:
        """Return the environment for every `rolekit` command of this fleet."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("ROLEKIT_") or name == "ROLEKIT_BROKER"
        }
        own = {"ROLEKIT_HOME": str(self.folder), "ROLEKIT_APP": APP}
        if self.database:
            own["ROLEKIT_DATABASE"] = self.database
        return {**kept, **own, **self.settings}

    def tail(self) -> str:
        """Return the last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(
            self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]
        )


def addresses(*, http: int = 0, smtp: int = 0) -> dict[str, str]:
    """Return settings that make mailflow listen on these ports, or on others that are free.

    A port is chosen here and not left to the supervisor, so that a supervisor that is
    started again listens where the one before it did.
    """
    wanted = {"MAILFRONT": http, "SMTP": smtp}
    return {
        f"ROLEKIT_{role}__BIND": f"127.0.0.1:{_free(port)}" for role, port in wanted.items()
    }


def _free(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet that is ready."""

    process: asyncio.subprocess.Process
    home: Home
    target: Target
    view: FleetView


async def ps(home: Home) -> FleetView | None:
    """Ask the fleet what `rolekit ps --json` prints; None while nobody answers.

    The control socket is asked, not the command: what waits for a start would else take from
    it the processor that an interpreter needs for its own.
    """
    control = httpx.AsyncHTTPTransport(uds=str(home.folder / CONTROL))
    async with httpx.AsyncClient(transport=control, base_url="http://rolekit") as http:
        with contextlib.suppress(httpx.TransportError, msgspec.MsgspecError):
            answer = await http.get("/ps")
            return msgspec.json.decode(answer.content, type=FleetView)
    return None


@contextlib.asynccontextmanager
async def running(home: Home) -> AsyncGenerator[Fleet]:
    """Start a fleet, wait until all of it is ready, stop it at the end.

    Raises:
        NotStarted: It did not become ready.
    """
    home.folder.mkdir(parents=True, exist_ok=True)
    process = await start(home)
    try:
        view = await _until_ready(home, process)
        yield Fleet(process, home, _target(view), view)
    finally:
        await stop(process)


async def start(home: Home) -> asyncio.subprocess.Process:
    """Start `rolekit up`, its output going to the log. It dies with nobody but `stop`."""
    with home.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rolekit", "up",
            env=home.environment(), cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


async def stop(process: asyncio.subprocess.Process) -> None:
    """Stop softly; after half a minute, not so softly."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _until_ready(home: Home, process: asyncio.subprocess.Process) -> FleetView:
    give_up = asyncio.get_running_loop().time() + READY_S
    view: FleetView | None = None
    while asyncio.get_running_loop().time() < give_up:
        if process.returncode is not None:
            raise NotStarted(f"rolekit up ended with {process.returncode}:\n{home.tail()}")
        view = await ps(home)
        if view is not None and _is_ready(view, home):
            return view
        await asyncio.sleep(0.2)
    states = (
        ", ".join(f"{role.role} {role.state}" for role in view.roles) if view else "no answer"
    )
    raise NotStarted(f"not ready after {READY_S:.0f} s ({states}):\n{home.tail()}")


def _is_ready(view: FleetView, home: Home) -> bool:
    """Tell whether all roles are ready.

    Raises:
        NotStarted: One of them never will be.
    """
    for role in view.roles:
        if role.state == "refused":
            raise NotStarted(f"{role.role} refused to start: {role.why}")
        if role.state == "crash-looping":
            raise NotStarted(f"{role.role} dies again and again:\n{home.tail()}")
    return all(role.state == "ready" for role in view.roles)


def _target(view: FleetView) -> Target:
    addresses = {role.role: role.address for role in view.roles}
    host, _, port = addresses["Smtp"].rpartition(":")
    return Target(
        front=f"http://{addresses['MailFront']}",
        smtp_host=host.strip("[]"),
        smtp_port=int(port),
    )
