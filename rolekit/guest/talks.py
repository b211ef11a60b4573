"""Programs that stay, and how they are spoken to: lines, frames, or a protocol of yours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from rolekit.errors import Reject, RolekitError
from rolekit.guest.pipes import Stdin, Stdout

if TYPE_CHECKING:
    from collections.abc import Callable

FRAME_HEAD_BYTES = 4


class Session:
    r"""A conversation with one running guest. Make a subclass to speak a protocol of yours.

    Its methods are what handlers call, each a question with its answer. Whatever the guest
    writes beyond the answer is taken for a loss of step, and the guest is replaced.

        class Counter(Session):
            async def count(self, text: bytes) -> int:
                await self.write(b"COUNT %d\n" % len(text))
                await self.write(text)
                return int(await self.read_until(b"\n"))

        class Texts(VMRole):
            counter = Guest(Talks(Counter, "wordcount", "--serve"), host=Sandbox())

    Args:
        stdin: Of the guest.
        stdout: Of the guest.
    """

    def __init__(self, stdin: Stdin, stdout: Stdout) -> None:
        self._stdin = stdin
        self._stdout = stdout

    async def ready(self) -> None:
        """Wait until the guest can be asked: a greeting, say. It has `start_s` for it."""

    async def check(self) -> None:
        """See that an idle guest is well; raise anything where it is not.

        It is asked about once in half a minute, and has `time_s` to answer.
        """

    async def write(self, data: bytes) -> None:
        """Write to the guest."""
        await self._stdin.write(data)

    async def read_until(self, mark: bytes) -> bytes:
        """Return what the guest writes up to a mark, and the mark.

        Raises:
            GuestFailed: It ended before, or wrote more than it may.
        """
        return await self._stdout.read_until(mark)

    async def read_exactly(self, size_bytes: int) -> bytes:
        """Return so many bytes of what the guest writes.

        Raises:
            GuestFailed: It ended before, or so many are more than it may write.
        """
        return await self._stdout.read_exactly(size_bytes)

    async def read_to_end(self) -> bytes:
        """Return everything that the guest writes until it ends, or ends the connection.

        Raises:
            GuestFailed: It wrote more than it may.
        """
        return await self._stdout.read_to_end()

    def end_writing(self) -> None:
        """Let the guest read an end: nothing more is written."""
        self._stdin.end()


S = TypeVar("S", bound=Session)
G = TypeVar("G")


class Talks(Generic[S]):
    """A program that stays, spoken to by a `Session` of yours.

    Args:
        session: Class that speaks its protocol.
        command: Program and arguments.
    """

    def __init__(self, session: Callable[[Stdin, Stdout], S], /, *command: str) -> None:
        self._session = session
        self.command = command

    def open(self, stdin: object, stdout: object, /) -> S:
        """Begin to talk, on the pipes of a running guest."""
        return self._session(*_pipes(stdin, stdout))


class LineGuest(Protocol):
    """A program that stays, and answers each line with a line."""

    async def ask(self, line: bytes, /) -> bytes:
        """Write a line, return the next one it writes; both without their end.

        Raises:
            Reject: The line has an end in it.
            GuestFailed: There was no answer, or too long a one, or too late.
        """
        ...


class FrameGuest(Protocol):
    """A program that stays, and answers each frame with a frame."""

    async def ask(self, frame: bytes, /) -> bytes:
        """Write a frame, return the next one it writes; both without their heads.

        Raises:
            GuestFailed: There was no answer, or too long a one, or too late.
        """
        ...


class Lines:
    """A program that stays, and answers each line with a line.

    It must write its answer out at once: most programs that write to a pipe keep it back
    until there is more. Look for an option like `--line-buffered`, or use `stdbuf -oL`.

    Args:
        command: Program and arguments.
    """

    def __init__(self, *command: str) -> None:
        self.command = command

    def open(self, stdin: object, stdout: object, /) -> LineGuest:
        """Begin to talk, on the pipes of a running guest."""
        return _LineSession(*_pipes(stdin, stdout))


class Frames:
    """A program that stays, and answers each frame with a frame: any bytes, with a length.

    A frame is four bytes of length, the most significant first, and that many bytes.

    Args:
        command: Program and arguments.
    """

    def __init__(self, *command: str) -> None:
        self.command = command

    def open(self, stdin: object, stdout: object, /) -> FrameGuest:
        """Begin to talk, on the pipes of a running guest."""
        return _FrameSession(*_pipes(stdin, stdout))


class _LineSession(Session):
    async def ask(self, line: bytes, /) -> bytes:
        if b"\n" in line:
            raise Reject("a line for a guest has an end of line in it: that would be two.")
        await self.write(line + b"\n")
        return (await self.read_until(b"\n"))[:-1]


class _FrameSession(Session):
    async def ask(self, frame: bytes, /) -> bytes:
        await self.write(len(frame).to_bytes(FRAME_HEAD_BYTES, "big") + frame)
        size_bytes = int.from_bytes(await self.read_exactly(FRAME_HEAD_BYTES), "big")
        return await self.read_exactly(size_bytes)


def _pipes(stdin: object, stdout: object) -> tuple[Stdin, Stdout]:
    if isinstance(stdin, Stdin) and isinstance(stdout, Stdout):
        return stdin, stdout
    raise RolekitError(
        "A protocol was opened on something else than the pipes of a running guest.",
        fix="Declare it in a role: Guest(Lines(...), host=...).",
    )
