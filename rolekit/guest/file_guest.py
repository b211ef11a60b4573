"""Guests that take a file from one folder, and leave another in a second."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rolekit.errors import GuestFailed, Reject
from rolekit.guest.servers import Server

if TYPE_CHECKING:
    from rolekit.guest.address import Address
    from rolekit.guest.servers import Door

INTO, OUT = "in", "out"
LOOK_S, LOOK_MAX_S = 0.002, 0.05
"""Between looks whether there is a result."""
_LONGEST_NAME_BYTES = 200


@dataclass(frozen=True, slots=True)
class FileResult:
    """The file that a guest left for one that it was given.

    Attributes:
        name: Its name.
        body: What is in it.
    """

    name: str
    body: bytes


class FileGuest(Protocol):
    """A program that takes files from a folder, and leaves others in a second."""

    async def drop(self, data: bytes, /, *, name: str = "message") -> FileResult:
        """Give it a file, and return the one that it leaves.

        The file appears in its folder `in` with all that is in it, at once. What appears in
        `out` under a name that does not begin with a dot is the result, and is complete: a
        program that takes time to write it does so under another name, and renames it.

        Args:
            data: What is in the file.
            name: Its name; no folder is in it.

        Raises:
            Reject: The name is none for a file.
            GuestFailed: There was no result, or too long a one, or too late.
        """
        ...


class Files(Server[FileGuest]):
    """A program that stays, takes files from a folder, and leaves others in a second.

    The folders are `in` and `out` in the folder that it starts in; in its command "{in}" and
    "{out}" stand for their paths. It has one file at a time, and must leave one for each. Of
    what else it leaves nobody knows what it belongs to: it is replaced then.

    Args:
        command: Program and arguments.
    """

    folders = (INTO, OUT)

    def __init__(self, *command: str) -> None:
        super().__init__(*command)

    def serve(self, door: Door) -> FileGuest:
        """Begin to talk."""
        return _FileSession(door)

    def told(
        self, command: tuple[str, ...], address: Address
    ) -> tuple[list[str], dict[str, str]]:
        """Return the command of a guest with its folders there."""
        return [
            part.replace("{in}", f"{address.path}/{INTO}").replace(
                "{out}", f"{address.path}/{OUT}"
            )
            for part in command
        ], {}


class _FileSession:
    def __init__(self, door: Door) -> None:
        self._door = door
        self._out = -1
        self.is_noisy = False
        self.tried = "it has no folder out"

    async def ready(self) -> None:
        """Wait until its folders are there."""
        while self._out < 0:
            try:
                self._out = await self._door.folder(OUT)
            except OSError as error:
                self.tried = f"its folder out: {error.strerror or error}"
                await asyncio.sleep(LOOK_S)

    async def check(self) -> None:
        """See that it has left nothing that nobody asked for."""
        if left := await self._names():
            raise GuestFailed(f"{left[0]!r} is in its folder out, and nobody asked for it.")

    async def drop(self, data: bytes, /, *, name: str = "message") -> FileResult:
        """Give it a file; see `FileGuest`."""
        _check_name(name)
        await self.check()
        try:
            await self._door.put(name, data)
            found = await self._found()
            body = await self._door.take(found, name)
        except OSError as error:
            raise GuestFailed(f"its folders: {error.strerror or error}.") from error
        self.is_noisy = bool(await self._names())
        return FileResult(found, body)

    async def _found(self) -> str:
        """Wait for a result; return its name."""
        wait_s = LOOK_S
        while True:
            for name in await self._names():
                if not name.startswith("."):
                    return name
            await self._door.rest(wait_s)
            wait_s = min(wait_s * 1.5, LOOK_MAX_S)

    async def _names(self) -> list[str]:
        return sorted(await asyncio.to_thread(os.listdir, self._out))

    def close(self) -> None:
        """Let go of its folders."""
        if self._out >= 0:
            os.close(self._out)
            self._out = -1


def _check_name(name: str) -> None:
    """Refuse what is no name of a file, or is a hidden one.

    Raises:
        Reject: It is none.
    """
    is_name = name and "/" not in name and "\0" not in name and not name.startswith(".")
    if not is_name or len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
        raise Reject(
            f"{name[:100]!r} is no name for a file of a guest: up to {_LONGEST_NAME_BYTES} "
            "bytes without a slash, that do not begin with a dot, are expected."
        )
