"""Several supervisors of one app, asked and told together over the control API."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from rolekit.cli.client import GONE, Control
from rolekit.dashboard.joined import JoinedStatus, join, join_usage
from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.supervisor.control import Nothing, Scaled, ScaleOrder
from rolekit.supervisor.control_restart import RestartNews, RestartOrder
from rolekit.supervisor.usage import FleetUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rolekit.supervisor.status import FleetStatus

T = TypeVar("T")

_LOOK_ANSWER_S = 5.0
_AT_ONCE = 16
_LOOK_S = 0.5


class Supervisors:
    """Those at some addresses. A name that stands for several machines means all of them.

    Names are looked up each time, so containers may come and go.

    Args:
        places: "host:port" of each.
        token: Of their control API.

    Raises:
        ConfigError: One is not an address.
    """

    def __init__(self, places: Iterable[str], token: str) -> None:
        self._places = [_parsed(one) for one in places]
        self._token = token
        self._numbers: dict[str, int] = {}
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="supervisors")

    def status(self) -> JoinedStatus:
        """Ask how they are. Raises `Unavailable` when none answers."""
        told, missing = self._ask_all(Control.status)
        return join(told, missing)

    def usage(self) -> FleetUsage:
        """Ask what they use; raises likewise."""
        told, missing = self._ask_all(lambda one: one.ask("/top", Nothing(), FleetUsage))
        return join_usage(told, missing, time.monotonic())

    def scale(self, role: str, count: str) -> int:
        """Change how many instances a role has, where one supervisor alone has it.

        Raises:
            ConfigError: It refused, or several have it.
        """
        having = self._with(role)
        if len(having) > 1:
            raise ConfigError(
                f"{role} runs under {len(having)} supervisors, so {count or 'this'} could mean "
                "each of them or all.",
                fix="Scale what they run in, for example docker compose up --scale.",
            )
        order = ScaleOrder(role, count)
        return having[0].order("/scale", order, Scaled).instances

    def restart(self, role: str) -> str:
        """Restart a role, or everything, of one supervisor after the other.

        Raises:
            RolekitError: One could not; those after it were not told.
        """
        having = self._with(role)
        lines = [restarted(one, role) for one in having]
        return lines[0] if len(lines) == 1 else f"{len(lines)} supervisors did it: {lines[-1]}"

    def _with(self, role: str) -> list[Control]:
        told, _ = self._ask_all(Control.status)
        having = [
            Control(at, self._token)
            for at, _, status in told
            if not role or any(one.role == role for one in status.roles)
        ]
        if not having:
            raise ConfigError(f"No supervisor that answers has a role {role}.")
        return having

    def _ask_all(
        self, question: Callable[[Control], T]
    ) -> tuple[list[tuple[str, int, T]], list[str]]:
        """Ask each; return its address, its number while this lives, and its answer."""

        def ask(at: str) -> T | Exception:
            try:
                return question(Control(at, self._token, answer_s=_LOOK_ANSWER_S))
            except (*GONE, RolekitError) as error:
                return error

        addresses, missing = self._addresses()
        answers = list(zip(addresses, self._threads.map(ask, addresses), strict=True))
        told = [
            (at, self._numbers.setdefault(at, len(self._numbers)), answer)
            for at, answer in answers
            if not isinstance(answer, Exception)
        ]
        failed = [(at, one) for at, one in answers if isinstance(one, Exception)]
        if not told:
            why = f": {failed[0][0]} says {failed[0][1]}" if failed else ""
            raise Unavailable(
                f"None of {', '.join(f'{host}:{port}' for host, port in self._places)} answers"
                f"{why.rstrip('.')}.",
                fix="See that ROLEKIT_CONTROL is an address there, and the token the same.",
            )
        return told, [*missing, *(at for at, _ in failed)]

    def _addresses(self) -> tuple[list[str], list[str]]:
        found: dict[str, None] = {}
        missing: list[str] = []
        for host, port in self._places:
            try:
                machines = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError:
                missing.append(f"{host}:{port}")
                continue
            family = min(one[0] for one in machines)  # a machine may have IPv6 too: IPv4 first
            for *_, address in (one for one in machines if one[0] == family):
                name = str(address[0])
                found[f"[{name}]:{port}" if ":" in name else f"{name}:{port}"] = None
        return list(found), missing


def restarted(control: Control, role: str) -> str:
    """Restart a role of one supervisor by turns; return what came of it.

    Raises:
        RolekitError: It could not.
    """
    last = RestartNews()
    for news in control.follow("/restart", RestartOrder(role=role), RestartNews):
        last = news
    if last.problems:
        raise RolekitError(last.problems[0].what, fix=last.problems[0].fix)
    if not last.is_done:
        raise RolekitError("The restart was aborted; what ran before runs again.")
    return last.line or f"{role or 'The app'} was restarted."


def reached(supervisors: Supervisors, wait_s: float) -> FleetStatus:
    """Ask until one answers; raises `Unavailable` when none did for so long."""
    give_up = time.monotonic() + wait_s
    while True:
        try:
            return supervisors.status()
        except Unavailable:
            if time.monotonic() > give_up:
                raise
            time.sleep(_LOOK_S)


def _parsed(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(
            f"--supervisor {place} is not an address; host:port is expected.",
            fix="For example --supervisor worker:7070.",
        )
    return host.strip("[]"), int(port)
