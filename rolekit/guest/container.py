"""The host for programs with a system of their own: a container of Docker or Podman.

The instance does not speak to the engine. A launcher does (`launcher`), which starts what the
app has declared and nothing else; see `orders_of`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypedDict

from rolekit.errors import ConfigError
from rolekit.guest import reach
from rolekit.guest.hosts import Launch, require_linux
from rolekit.guest.once import Exec
from rolekit.guest.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rolekit.guest.declare import Guest
    from rolekit.guest.limits import Limits

MAX_CPUS = 1024


class Order(TypedDict):
    """All that a launcher is told of a guest: it starts this, or nothing.

    Attributes:
        role: Whose guest it is.
        guest: Name of the attribute.
        image: Name of an image, or empty.
        build: Folder with a Dockerfile, or empty.
        command: Program and arguments.
        env: Of its environment, what it is told about where it shall listen.
        runs_once: Its command is given arguments and files with each run.
        is_reached: Whether somebody will connect to it, or look into its folders.
        folders: Made in its scratch folder.
        network: "none", or one of the engine's.
        cpus: Cores that it may use.
        memory_mb: Of all its processes together.
        pids: Processes at once.
        cpu_s: Of processor time, for each process; 0: no limit.
        scratch_mb: For its files.
    """

    role: str
    guest: str
    image: str
    build: str
    command: list[str]
    env: dict[str, str]
    runs_once: bool
    is_reached: bool
    folders: list[str]
    network: str
    cpus: float
    memory_mb: int
    pids: int
    cpu_s: int
    scratch_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of Docker or Podman: for a program that needs a system of its own.

    The guest is uid 65534 without capabilities, and can gain none; the engine's own filter of
    system calls is on. The image is read-only; it may write to /tmp, which it starts in: a
    file system in memory, new with each guest. It has no network, unless it names one.

    Attributes:
        image: Name of an image that the engine has.
        build: Instead: a folder with a Dockerfile, from which the engine makes one.
        network: "none", or the name of a network that the engine has.
        cpus: Cores that it may use.
    """

    image: str = ""
    build: str = ""
    network: str = "none"
    cpus: float = 1.0
    has_own_network: ClassVar[bool] = True

    def launch(self, command: tuple[str, ...], limits: Limits) -> Launch:
        """See that it can be started from here; see `Host`."""
        del limits
        require_linux("Container")
        require_client()
        return Launch(
            command=command, env={"HOME": reach.SCRATCH}, limits={}, has_own_network=True
        )

    def problems(self) -> Iterator[str]:
        """Say what makes no sense."""
        if bool(self.image) == bool(self.build):
            yield f"has host={self!r}; either image= or build= is expected."
        if self.image.startswith("-") or any(char.isspace() for char in self.image):
            yield f"has the image {self.image!r}; a name like 'debian:12' is expected."
        if self.build and not (Path(self.build) / "Dockerfile").is_file():
            yield (
                f"has build={self.build!r}, and there is no {Path(self.build).absolute()}"
                "/Dockerfile; a folder with one is expected."
            )
        if self.network in {"", "host"} or self.network.startswith("container:"):
            yield (
                f"has network={self.network!r}; 'none' or a network of the engine's is "
                "expected, not that of the machine or of another container."
            )
        if not 0 < self.cpus <= MAX_CPUS:
            yield f"has cpus={self.cpus!r}; a number above 0 is expected, up to {MAX_CPUS}."


def require_client() -> None:
    """See that an engine can be spoken to.

    Raises:
        ConfigError: aiodocker is not installed.
    """
    if importlib.util.find_spec("aiodocker") is None:
        raise ConfigError(
            "Container() needs aiodocker, which is not installed.",
            fix="Install it: pip install 'rolekit[containers]'.",
        )


def order_for(role: str, guest: Guest[object], host: Container) -> Order:
    """Say what a launcher is to start for a guest."""
    limits = guest.limits
    speaks, env = guest.speaks, dict[str, str]()
    command = list(speaks.command)
    if isinstance(speaks, Server):
        command, env = speaks.told(tuple(command), speaks.address_in(reach.SCRATCH))
    return Order(
        role=role,
        guest=guest.name,
        image=host.image,
        build=host.build,
        command=command,
        env=env,
        runs_once=isinstance(speaks, Exec),
        is_reached=isinstance(speaks, Server),
        folders=list(speaks.folders) if isinstance(speaks, Server) else [],
        network=host.network,
        cpus=host.cpus,
        memory_mb=limits.memory_mb,
        pids=limits.pids,
        cpu_s=limits.cpu_s,
        scratch_mb=limits.scratch_mb,
    )


def orders_of(role: type[object], guests: Iterator[Guest[object]]) -> list[Order]:
    """Say what a launcher may start for a role."""
    return [
        order_for(role.__name__, guest, guest.host)
        for guest in guests
        if isinstance(guest.host, Container)
    ]


def key_of(order: Order) -> str:
    """Name an order by all that is in it, so that an instance of old code gets its own."""
    return hashlib.sha256(json.dumps(order, sort_keys=True).encode()).hexdigest()[:24]
