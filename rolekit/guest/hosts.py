"""Where a guest lives. A host says how its keeper is to start it, or why it cannot."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from rolekit.guest import inside
    from rolekit.guest.address import Address
    from rolekit.guest.kept import Ended
    from rolekit.guest.limits import Limits
    from rolekit.guest.pipes import Pipes

MIB = 1 << 20
KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""Of the environment of an instance, a guest gets these; the rest may hold secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start a guest.

    Attributes:
        prefix: In front of its command, up to where files are named.
        command: Program, with its path, and arguments.
        env: All of its environment.
        limits: Resource limits, by the name that `resource` has for them.
        filter: Of system calls; None: none, and the guest is started directly.
        pids: For its user namespace; None where it has none.
        uid: Whose rights it is started with; None: those of the instance.
        has_own_network: Whether a port of it is nobody else's.
        can_wait: Whether it can be made ready before its arguments are known.
        berth: Makes what starts it, in place of a keeper.
        folders: Made in its scratch folder.
    """

    prefix: tuple[str, ...] = ()
    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict[str, str])
    limits: dict[str, int]
    filter: bytes | None = None
    pids: int | None = None
    uid: int | None = None
    has_own_network: bool = False
    can_wait: bool = False
    folders: tuple[str, ...] = ()
    berth: Callable[[], Starts] | None = None


class Starts(Protocol):
    """What a place of a pool has to start guests with, one at a time: a keeper, or a berth."""

    pid: int
    is_lost: bool
    is_spent: bool
    """`ready` is wanted before the next guest can be launched."""

    async def start(self) -> None:
        """Come up; raises a `GuestFailed`, or a `ConfigError`, when it cannot."""
        ...

    async def ready(self) -> None:
        """Have what the next guest needs; raises a `GuestFailed` when it cannot."""
        ...

    def pipes(self, guest: str, cap_bytes: int, *, is_server: bool = False) -> Pipes:
        """Return what the next guest is spoken to by."""
        ...

    async def launch(
        self,
        launch: Launch,
        pipes: Sequence[int],
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        is_reached: bool = False,
    ) -> asyncio.Future[Ended]:
        """Start a guest; return its end."""
        ...

    def socket_path(self, launch: Launch) -> str:
        """Return where a guest shall make its Unix socket, as it sees it."""
        ...

    async def connect(self, launch: Launch, address: Address) -> socket.socket:
        """Connect to a server in the guest that runs; raises an `OSError` when it cannot."""
        ...

    async def go_inside(self, order: inside.Order, *given: int) -> list[int]:
        """Have something done where the guest lives; raises an `OSError` when it cannot be.

        Returns:
            Descriptors that came back: one, or none.
        """
        ...

    def kill(self) -> None:
        """Have the guest killed that runs."""
        ...

    async def clear(self) -> None:
        """Have nothing of the guest left."""
        ...

    async def stop(self) -> None:
        """End."""
        ...


class Host(Protocol):
    """Where a guest lives."""

    def launch(self, command: tuple[str, ...], limits: Limits) -> Launch:
        """Say how to start a guest here. This may block: it looks at the machine.

        Raises:
            ConfigError: It cannot be started here; says what was tried.
        """
        ...


@dataclass(frozen=True, slots=True)
class Process:
    """A session and process group of its own, with limits: for programs that are trusted.

    It has the rights of the instance, its network and its files. Each guest has a scratch
    folder, which it starts in; it is removed with the guest. Whatever the guest started is
    killed with it. Memory and processes are limited by a cgroup where one can be made, and
    else by looking at them 20 times a second.
    """

    def launch(self, command: tuple[str, ...], limits: Limits) -> Launch:
        """Find the program; see `Host`."""
        require_linux("Process")
        path = os.environ.get("PATH", os.defpath)
        found = shutil.which(command[0], path=path)
        if found is None:
            where = "" if "/" in command[0] else f" in PATH ({path})"
            raise ConfigError(
                f"the command {command[0]!r} was not found{where}, or may not be executed.",
                fix="Install it, or name it with its path.",
            )
        return Launch(
            command=(str(Path(found).absolute()), *command[1:]),
            env={"PATH": path, **kept_environment()},
            limits=resource_limits(limits),
            can_wait=True,
        )


def require_linux(host: str) -> None:
    """Refuse systems without what a keeper stands on.

    Raises:
        ConfigError: This is not Linux.
    """
    if sys.platform != "linux":
        raise ConfigError(
            f"{host}() needs Linux; this is {sys.platform}.",
            fix="Run the role in a container.",
        )


def kept_environment() -> dict[str, str]:
    """Return what a guest gets of the environment of its instance."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {"LANG": "C.UTF-8", **kept}


def resource_limits(limits: Limits) -> dict[str, int]:
    """Translate limits into those that the kernel has for each process."""
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processor = {"RLIMIT_CPU": limits.cpu_s} if limits.cpu_s else {}
    return processor | {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": limits.scratch_mb * MIB,
        "RLIMIT_DATA": limits.memory_mb * MIB,
        "RLIMIT_NOFILE": 1024
        if open_files == resource.RLIM_INFINITY
        else min(1024, open_files),
    }
