"""Listening sockets: bound once by the supervisor and inherited by all instances of a role.

So a restart drops no connection, and a port in use is found before anything starts.
"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError, RolekitError

if TYPE_CHECKING:
    from collections.abc import Generator

    from rolekit.supervisor.wire import RoleSummary

_BACKLOG = 1024


def listen(role: str, bind: str, variable: str = "") -> socket.socket:
    """Bind and listen.

    Args:
        role: Name, for the sentence when it fails.
        bind: "host:port", "[v6]:port" or ":port" (all IPv4 addresses); port 0: any free one.
        variable: That sets it; empty: of the role.

    Raises:
        ConfigError: `bind` is not an address, or the address cannot be had.
    """
    variable = variable or f"ROLEKIT_{role.upper()}__BIND"
    host, port = _parse(role, bind, variable)
    try:
        found = socket.getaddrinfo(
            host or "0.0.0.0",  # noqa: S104 - asked for, by leaving it out
            port,
            type=socket.SOCK_STREAM,
        )
    except socket.gaierror as error:
        raise ConfigError(
            f"{role} wants to listen on {bind}, but {host} is not an address here: "
            f"{error.strerror}.",
            fix=_fix(variable),
        ) from error
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What is accepted inherits it; asyncio does not set it on sockets it did not open,
        # and an answer in two writes then waits 40 ms for an acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise _refusal(role, bind, variable, error) from error
    listening.setblocking(False)  # noqa: FBT003 - the only way to say it
    return listening


@contextmanager
def shared_by(role: RoleSummary, bind: str) -> Generator[tuple[socket.socket, ...]]:
    """Open what the instances of a role share.

    Gives the socket they listen on. For a WebRole the pair in which they pass on
    connections follows: where they take and where they give.

    Raises:
        ConfigError: As `listen`.
    """
    with ExitStack() as held:
        listening = held.enter_context(listen(role.name, bind))
        pair = socket.socketpair() if role.is_web else ()
        yield (listening, *map(held.enter_context, pair))


class Doors:
    """The sockets of a fleet's roles: opened before a role begins, closed when it is gone.

    Attributes:
        shared: What instances of a role share, by its name, as `shared_by` gives it.
    """

    def __init__(self) -> None:
        self.shared: dict[str, tuple[socket.socket, ...]] = {}
        self._held: dict[str, ExitStack] = {}

    def open(self, role: RoleSummary, bind: str | None) -> None:
        """Open those of a role, if it listens at all.

        Raises:
            ConfigError: As `listen`.
        """
        if bind:
            with ExitStack() as held:
                self.shared[role.name] = held.enter_context(shared_by(role, bind))
                self._held[role.name] = held.pop_all()

    def close(self, role: str) -> None:
        """Close those of a role, if it has any."""
        self.shared.pop(role, None)
        if held := self._held.pop(role, None):
            held.close()

    def close_all(self) -> None:
        """Close those of all."""
        for role in list(self._held):
            self.close(role)

    @property
    def addresses(self) -> dict[str, str]:
        """Where roles listen, by name."""
        return {name: address_of(shared[0]) for name, shared in self.shared.items()}


def address_of(listening: socket.socket) -> str:
    """Return where it really listens, as "host:port"."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse(role: str, bind: str, variable: str) -> tuple[str, int]:
    host, colon, port = bind.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:  # noqa: PLR2004 - the highest port
        raise ConfigError(
            f"{role} has bind = {bind!r}; host:port is expected, with a port from 0 to 65535.",
            fix=f'For example bind = "127.0.0.1:8000" in {role}, or {variable}.',
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _refusal(role: str, bind: str, variable: str, error: OSError) -> RolekitError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"Port {bind.rpartition(':')[2]} is in use, so {role} cannot listen on {bind}.",
            fix=f"Stop what listens there, or choose another: {variable}=host:port "
            "(port 0 takes any free one).",
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            f"{role} may not listen on {bind}: ports below 1024 need a privilege.",
            fix=_fix(variable),
        )
    return ConfigError(f"{role} cannot listen on {bind}: {error.strerror}.", fix=_fix(variable))


def _fix(variable: str) -> str:
    return f"Choose another address: {variable}=host:port."
