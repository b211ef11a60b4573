"""The command line's side of the control API."""

from __future__ import annotations

import socket
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

import msgspec

from rolekit.cli.elsewhere import control_sockets
from rolekit.config import nearest
from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.supervisor.control import ControlProblem, Readiness
from rolekit.supervisor.status import FleetStatus

if TYPE_CHECKING:
    from collections.abc import Generator

    from rolekit.config import Config

T = TypeVar("T")

GONE = (OSError, HTTPException)
"""What is raised when nobody answers."""

_ANSWER_S = 15
_GLANCE_S = 1.0
_OK = 200
_NOT_READY = 503
_REFUSED = (400, 401, 404, 429)


class Control:
    """One supervisor that answers, on a Unix socket or at "host:port" with a token."""

    def __init__(self, at: Path | str, token: str = "", *, answer_s: float = _ANSWER_S) -> None:
        self.at = at
        self._token = token
        self._answer_s = answer_s

    def status(self) -> FleetStatus:
        """Ask how the fleet is."""
        return self._ask("GET", "/ps", b"", FleetStatus)

    def metrics(self) -> str:
        """Ask for all numbers, as Prometheus wants them."""
        with self._exchange("GET", "/metrics", b"") as response:
            self._expect_ok(response)
            return response.read().decode()

    def is_ready(self) -> bool:
        """Ask whether all is ready: asks neither database nor broker."""
        with self._exchange("GET", "/ready", b"") as response:
            if response.status != _NOT_READY:
                self._expect_ok(response)
            return msgspec.json.decode(response.read(), type=Readiness).ready

    def status_again(self) -> FleetStatus:
        """Ask once more.

        Raises:
            Unavailable: It went away meanwhile.
        """
        try:
            return self.status()
        except GONE as error:
            raise self._went_away(error) from error

    def order(self, path: str, order: msgspec.Struct, answer: type[T]) -> T:
        """Tell it something; return its answer.

        Raises:
            ConfigError: It refused.
            Unavailable: It went away meanwhile.
        """
        try:
            return self._ask("POST", path, msgspec.json.encode(order), answer)
        except GONE as error:
            raise self._went_away(error) from error

    def ask(self, path: str, order: msgspec.Struct, answer: type[T]) -> T:
        """Ask it something; return its answer. Raises as `order` does."""
        try:
            return self._ask("GET", path + _query(order), b"", answer)
        except GONE as error:
            raise self._went_away(error) from error

    def follow(
        self, path: str, order: msgspec.Struct, line: type[T], *, method: str = "POST"
    ) -> Generator[T]:
        """Ask it something that takes long; give its lines as they come.

        Raises:
            ConfigError: It refused.
            Unavailable: It went away meanwhile.
        """
        body = msgspec.json.encode(order) if method == "POST" else b""
        path = path if method == "POST" else path + _query(order)
        try:
            with self._exchange(method, path, body, is_endless=method == "GET") as response:
                self._expect_ok(response)
                for told in response:
                    yield msgspec.json.decode(told, type=line)
        except GONE as error:
            raise self._went_away(error) from error

    def _ask(self, method: str, path: str, body: bytes, answer: type[T]) -> T:
        with self._exchange(method, path, body) as response:
            self._expect_ok(response)
            return msgspec.json.decode(response.read(), type=answer)

    def _expect_ok(self, response: HTTPResponse) -> None:
        if response.status in _REFUSED:
            problem = msgspec.json.decode(response.read(), type=ControlProblem)
            raise ConfigError(problem.what, fix=problem.fix)
        if response.status != _OK:
            raise RolekitError(
                f"The supervisor at {self.at} answered {response.status}.",
                fix="Its log says why.",
            )

    def _went_away(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"The supervisor at {self.at} went away while it was asked: "
            f"{str(error) or type(error).__name__}.",
            fix="`rolekit ps` shows what runs here.",
        )

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: bytes, *, is_endless: bool = False
    ) -> Generator[HTTPResponse]:
        """Send one request over a connection of its own; give the response.

        Not with httpx: httpcore leaves its socket open when it cannot connect, and a
        supervisor that stops may go away at any moment.
        """
        http = HTTPConnection("rolekit")
        with self._connect() as connection, closing(http):
            http.sock = connection
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            http.request(method, path, body, headers)
            response = http.getresponse()
            connection.settimeout(None if is_endless else self._answer_s)
            yield response

    def _connect(self) -> socket.socket:
        if isinstance(self.at, str):
            host, _, port = self.at.rpartition(":")
            return socket.create_connection((host.strip("[]"), int(port)), self._answer_s)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._answer_s)
            connection.connect(str(self.at))
        except BaseException:
            connection.close()
            raise
        return connection


def find(config: Config) -> tuple[Control, FleetStatus]:
    """Find the supervisor that is meant.

    Raises:
        Unavailable: None runs here, or not of this app.
        ConfigError: Several run, and nothing says which.
    """
    running: list[tuple[Control, FleetStatus]] = []
    for control in _candidates(config):
        with suppress(*GONE):
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
    place = config.control or config.home.resolve()
    what = (
        f"{f'{wanted} is not' if wanted else 'No app is'} running here: no control socket "
        f"answers {'at' if config.control else 'in'} {place}."
    )
    command = f"rolekit up {wanted or 'module:name'}"
    if others := _elsewhere():
        listed = ", ".join(f"{status.app} in {home}" for status, home in others)
        home = next((home for one, home in others if wanted in (one.app, one.target)), None)
        raise Unavailable(
            f"{what} On this host, there run: {listed}.",
            fix=f"Name a home: ROLEKIT_HOME={home or others[0][1]}. Or start one: {command}",
        )
    raise Unavailable(
        what,
        fix=f"Start it: {command}; or go to the folder where it was started, or name its home "
        "(ROLEKIT_HOME).",
    )


def is_ready(config: Config) -> bool:
    """Say whether all of the app that runs here is ready. Raises as `find` does."""
    answers: list[bool] = []
    for control in _candidates(config):
        with suppress(*GONE):
            answers.append(control.is_ready())
    return answers[0] if len(answers) == 1 else find(config)[0].is_ready()


def _elsewhere() -> list[tuple[FleetStatus, Path]]:
    """Ask every supervisor of this host that this user may; with their homes."""
    found: list[tuple[FleetStatus, Path]] = []
    for path in control_sockets():
        with suppress(*GONE, msgspec.MsgspecError, RolekitError):
            found.append((Control(path, answer_s=_GLANCE_S).status(), path.parent))
    return found


def _candidates(config: Config) -> list[Control]:
    if config.control_address:
        config.check_control()
        return [Control(config.control_address, config.control_token)]
    if config.control:
        return [Control(Path(config.control))]
    return [Control(path) for path in sorted(config.home.glob("*.sock"))]


def _query(order: msgspec.Struct) -> str:
    given = msgspec.to_builtins(order, str_keys=True)
    fields = {name: _text(value) for name, value in given.items() if value != ""}
    return f"?{urlencode(fields)}" if fields else ""


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
