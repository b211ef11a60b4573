"""Guests that listen, and how they are reached: a port or a socket, and who connects to it."""

from __future__ import annotations

import asyncio
import os
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from rolekit.errors import GuestFailed, RolekitError
from rolekit.guest import inside, keeper
from rolekit.guest.address import Address, Port

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from rolekit.guest.hosts import Host, Launch, Starts
    from rolekit.guest.kept import Ended

PORT, SOCKET = "{port}", "{socket}"
SOCKET_NAME = keeper.SOCKET
INNER_PORT = 8080
"""What a guest with a network of its own is told, where it does not say which it has."""
LONGEST_PATH_BYTES = 107
PROBE_S = 5.0
"""A check that takes longer has failed."""
AGAIN_S, AGAIN_MAX_S = 0.005, 0.25
"""Between looks whether a guest that starts is well."""

G = TypeVar("G")


class Door:
    """The way to a guest that listens: what a pool gives to a `Server`.

    Args:
        keeper: Of the guest.
        launch: How it is started.
        server: Its protocol.
        cap_bytes: What it may write for one call.

    Attributes:
        address: Where it is told to listen; where it has folders, the one that they are in.
        cap_bytes: As above.
        ended: Its end, once it has been started.
        has_folders: Whether it is spoken to by folders.
    """

    def __init__(
        self, keeper: Starts, launch: Launch, server: Server[object], cap_bytes: int
    ) -> None:
        self._keeper = keeper
        self._launch = launch
        self.cap_bytes = cap_bytes
        self._port: Port | None = None
        self.ended: asyncio.Future[Ended] | None = None
        self.has_folders = bool(server.folders)
        self.address = self._chosen(server)

    def _chosen(self, server: Server[object]) -> Address:
        if self.has_folders:
            return Address(path=self._launch.env.get("HOME", "."))
        if server.wants_path:
            path = self._keeper.socket_path(self._launch)
            if len(path.encode()) > LONGEST_PATH_BYTES:
                raise GuestFailed(
                    f"{path} is where its socket would be, and a path of a Unix socket has at "
                    f"most {LONGEST_PATH_BYTES} bytes.",
                    fix="Set TMPDIR to a shorter path, or use {port}.",
                )
            return Address(path=path)
        if server.port is not None or self._launch.has_own_network:
            return Address(port=server.port or INNER_PORT)
        self._port = Port()
        return Address(port=self._port.number)

    async def connect(self) -> socket.socket:
        """Connect to the guest.

        Raises:
            OSError: It does not listen, or is gone.
        """
        return await self._keeper.connect(self._launch, self.address)

    async def folder(self, name: str) -> int:
        """Open a folder of its scratch folder.

        Raises:
            OSError: It is not there.
        """
        (fd,) = await self._keeper.go_inside(inside.order("open", path=name))
        return fd

    async def put(self, name: str, data: bytes) -> None:
        """Let a file appear in its folder `in`.

        Raises:
            OSError: There is one of that name, or no space left.
        """
        order = inside.order("put", path="in", name=name)
        fd = await asyncio.to_thread(_held, data)
        try:
            await self._keeper.go_inside(order, fd)
        finally:
            os.close(fd)

    async def take(self, name: str, given: str) -> bytes:
        """Take a file out of its folder `out`; what it was given goes out of `in`.

        Raises:
            OSError: It is gone again, or is no file.
            GuestFailed: There is more in it than the guest may write.
        """
        order = inside.order("take", path="out", name=name, beside="in", given=given)
        (fd,) = await self._keeper.go_inside(order)
        data = await asyncio.to_thread(_read, fd, self.cap_bytes + 1)
        if len(data) > self.cap_bytes:
            raise GuestFailed(
                f"it wrote more than the {self.cap_bytes >> 20} MB that output_mb allows."
            )
        return data

    async def rest(self, wait_s: float) -> None:
        """Wait so long.

        Raises:
            GuestFailed: The guest ends meanwhile.
        """
        if self.ended is None:
            await asyncio.sleep(wait_s)
        elif (await asyncio.wait([self.ended], timeout=wait_s))[0]:
            raise GuestFailed("it ended instead of answering.")

    def close(self) -> None:
        """Give back what was taken for the guest."""
        if self._port is not None:
            self._port.close()


@runtime_checkable
class Serving(Protocol):
    """What a `Server` opens: besides what handlers use, it looks after its guest.

    Attributes:
        tried: What `ready` has tried last, and how it went.
    """

    tried: str

    @property
    def is_noisy(self) -> bool:
        """Whether it has written what nobody asked for, so that it must be replaced."""
        ...

    async def ready(self) -> None:
        """Wait until the guest can be asked. The pool limits it to `start_s`."""
        ...

    async def check(self) -> None:
        """See that an idle guest is well; raise anything where it is not."""
        ...

    def close(self) -> None:
        """Let go of every connection."""
        ...


class Server(Generic[G]):
    """A program that listens; a protocol says how it is spoken to.

    In its command "{port}" stands for a port of 127.0.0.1, "{socket}" for the path of a Unix
    socket: it shall listen there. A port it is told by `PORT` in its environment too.

    Args:
        command: Program and arguments. It must stay in the foreground.
        port: Where the program listens, if it cannot be told; in a host where guests have a
            network of their own. None: one is chosen.
        in_flight: Calls at once, to one guest.

    Attributes:
        folders: What it is spoken to by, if it does not listen.
    """

    folders: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *command: str, port: int | None = None, in_flight: int = 1) -> None:
        self.command = command
        self.port = port
        self.in_flight = in_flight

    @property
    def wants_path(self) -> bool:
        """Whether it listens at a path."""
        return any(SOCKET in part for part in self.command)

    def open(self, stdin: object, stdout: object, /) -> G:
        """Begin to talk. A pool calls this, with the way to a running guest as `stdin`."""
        del stdout
        if isinstance(stdin, Door):
            return self.serve(stdin)
        raise RolekitError(
            f"{type(self).__name__}.open was called on something else than the way to a "
            "running guest.",
            fix=f"Declare it in a role: Guest({type(self).__name__}(...), host=...).",
        )

    @abstractmethod
    def serve(self, door: Door) -> G:
        """Return what handlers use; it has what `Serving` has, too."""

    def address_in(self, home: str) -> Address:
        """Return where it is told to listen by who knows nothing of it but its folder."""
        if self.folders:
            return Address(path=home)
        if self.wants_path:
            return Address(path=f"{home}/{SOCKET_NAME}")
        return Address(port=self.port or INNER_PORT)

    def told(
        self, command: tuple[str, ...], address: Address
    ) -> tuple[list[str], dict[str, str]]:
        """Return command and environment of a guest that shall listen there."""
        filled = [
            part.replace(PORT, str(address.port)).replace(SOCKET, address.path)
            for part in command
        ]
        return filled, {"PORT": str(address.port)} if address.port else {}

    def problems_in(self, host: Host, pool: int) -> Iterator[str]:
        """Say what makes no sense, for guests like this in such a host."""
        name = type(self).__name__
        if self.port is not None and not _is_port(self.port):
            yield f"has {name}(port={self.port!r}); a whole number from 1 to 65535 is expected."
        if type(self.in_flight) is not int or not 1 <= self.in_flight <= MAX_IN_FLIGHT:
            yield (
                f"has {name}(in_flight={self.in_flight!r}); a whole number from 1 to "
                f"{MAX_IN_FLIGHT} is expected."
            )
        if self.port is None:
            return
        if self.wants_path or any(PORT in part for part in self.command):
            yield (
                f"has {name}(port={self.port!r}), and a place for it in its command. One of "
                "the two is expected."
            )
        elif pool != 1 and not getattr(host, "has_own_network", False):
            yield (
                f"has {name}(port={self.port!r}) and pool={pool}, but all guests of "
                f"{type(host).__name__}() share the ports of the machine. Write {PORT} into "
                "its command."
            )


MAX_IN_FLIGHT = 10_000


def _is_port(value: object) -> bool:
    return type(value) is int and 1 <= value < 1 << 16


async def until_well(session: Serving) -> None:
    """Look again and again whether a guest that starts is well, until it is.

    What is wrong is kept in `tried`, for who has set a limit to this.
    """
    wait_s = AGAIN_S
    while True:
        try:
            await session.check()
        except (OSError, GuestFailed) as error:
            session.tried = error.what if isinstance(error, GuestFailed) else str(error)
        else:
            return
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 1.5, AGAIN_MAX_S)


def _held(data: bytes) -> int:
    fd = os.memfd_create("given", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _read(fd: int, most_bytes: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read(most_bytes)
