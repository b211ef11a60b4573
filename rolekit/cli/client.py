"""The command line's side of the control API."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import httpx
import msgspec

from rolekit.config import nearest
from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.supervisor.control import ControlProblem
from rolekit.supervisor.status import FleetStatus

if TYPE_CHECKING:
    from rolekit.config import Config

T = TypeVar("T")

GONE = (OSError, httpx.TransportError)
"""What is raised when nobody answers."""

_ANSWER_S = 15
_OK = 200
_WRONG = 400


class Control:
    """One supervisor that answers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def status(self) -> FleetStatus:
        """Ask how the fleet is."""
        return self._ask("GET", "/ps", b"", FleetStatus)

    def order(self, path: str, order: msgspec.Struct, answer: type[T]) -> T:
        """Tell it something; return its answer.

        Raises:
            ConfigError: It refused.
        """
        return self._ask("POST", path, msgspec.json.encode(order), answer)

    def _ask(self, method: str, path: str, body: bytes, answer: type[T]) -> T:
        # httpcore leaves its socket open when it cannot connect, so look before.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(str(self.path))
        transport = httpx.HTTPTransport(uds=str(self.path))
        with httpx.Client(
            transport=transport, base_url="http://rolekit", timeout=_ANSWER_S
        ) as http:
            response = http.request(method, path, content=body)
        if response.status_code == _WRONG:
            problem = msgspec.json.decode(response.content, type=ControlProblem)
            raise ConfigError(problem.what, fix=problem.fix)
        if response.status_code != _OK:
            raise RolekitError(
                f"The supervisor at {self.path} answered {response.status_code}.",
                fix="Its log says why.",
            )
        return msgspec.json.decode(response.content, type=answer)


def find(config: Config) -> tuple[Control, FleetStatus]:
    """Find the supervisor that is meant.

    Raises:
        Unavailable: None runs here, or not of this app.
        ConfigError: Several run, and nothing says which.
    """
    paths = [Path(config.control)] if config.control else sorted(config.home.glob("*.sock"))
    running: list[tuple[Control, FleetStatus]] = []
    for path in paths:
        control = Control(path)
        with contextlib.suppress(*GONE):
            running.append((control, control.status()))
    wanted = config.app
    matching = [one for one in running if not wanted or wanted in (one[1].app, one[1].target)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(status.app for _, status in matching)
        raise ConfigError(f"Several apps run here: {names}.", fix="Name one: --app NAME.")
    names_of = [status.app for _, status in running]
    if running:
        raise Unavailable(
            f"{wanted} is not running here; {', '.join(names_of)} is."
            f"{nearest(wanted, names_of)}",
            fix=f"Start it: rolekit up {wanted}",
        )
    raise Unavailable(
        f"{f'{wanted} is not' if wanted else 'No app is'} running here: no control socket "
        f"answers in {config.control or config.home.resolve()}.",
        fix=f"Start it: rolekit up {wanted or 'module:name'}; or go to the folder where it was "
        "started, or name its home (ROLEKIT_HOME).",
    )
