"""Where a guest listens, and ports that nobody else listens at."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rolekit.errors import GuestFailed

FIRST_PORT, LAST_PORT = 20_000, 32_000
"""Below what Linux takes for connections that go out (ip_local_port_range)."""
TRIES = 200


@dataclass(frozen=True, slots=True)
class Address:
    """Where a guest listens, as it sees it.

    Attributes:
        port: Of 127.0.0.1; 0 where it listens at a path.
        path: Of a Unix socket; empty where it has a port.
    """

    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return f"127.0.0.1:{self.port}" if self.port else self.path


class Port:
    """A port of this machine, for one guest with the network of its instance.

    No other guest on this machine is given it until `close`: the kernel keeps the list, as
    names of sockets, and strikes out who dies.

    Raises:
        GuestFailed: All that were tried are taken.
    """

    def __init__(self) -> None:
        for _ in range(TRIES):
            self.number = random.randrange(FIRST_PORT, _last())  # noqa: S311 - any will do
            if self._is_ours():
                return
        raise GuestFailed(
            f"{TRIES} ports between {FIRST_PORT} and {_last()} were tried, and all are taken."
        )

    def _is_ours(self) -> bool:
        self._name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._name.bind(f"\0rolekit-guest-port-{self.number}")
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(("127.0.0.1", self.number))
        except OSError:
            self._name.close()
            return False
        return True

    def close(self) -> None:
        """Let others have it."""
        self._name.close()


def _last() -> int:
    with suppress(OSError, ValueError, IndexError):
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        first = int(text.split()[0])
        if first > FIRST_PORT + TRIES:
            return min(LAST_PORT, first)
    return LAST_PORT
