"""How guests are spoken to: one run a message, or line by line with one that stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rolekit.errors import RolekitError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Output:
    """What one run of a guest left.

    Attributes:
        stdout: All of it.
        stderr_tail: Its last bytes.
        status: Exit status.
    """

    stdout: bytes
    stderr_tail: bytes
    status: int


class ExecGuest(Protocol):
    """A program that runs once a message."""

    async def run(
        self, stdin: bytes = b"", /, *args: str, files: Mapping[str, bytes] | None = None
    ) -> Output:
        """Run it.

        Args:
            stdin: What it reads.
            args: Added to its command.
            files: Put into its working folder, by name.
        """
        ...


class LineGuest(Protocol):
    """A program that stays, and answers each line with a line."""

    async def ask(self, line: bytes, /) -> bytes:
        """Write a line, return the next one it writes."""
        ...


class Exec:
    """One run a message: 0 is fine, 75 raises `Retry`, 64 to 69 raise `Reject`.

    Args:
        command: Program and arguments.
    """

    def __init__(self, *command: str) -> None:
        self.command = command

    def open(self, stdin: object, stdout: object, /) -> ExecGuest:
        """Refuse, for now."""
        del stdin, stdout
        raise _later(type(self).__name__)


class Lines:
    """A program that stays, and answers each line with a line.

    Args:
        command: Program and arguments.
    """

    def __init__(self, *command: str) -> None:
        self.command = command

    def open(self, stdin: object, stdout: object, /) -> LineGuest:
        """Refuse, for now."""
        del stdin, stdout
        raise _later(type(self).__name__)


def _later(name: str) -> RolekitError:
    return RolekitError(
        f"{name} cannot run a guest: guests come with a later part.",
        fix="In a test, give the role one: rolekit.testing.set_guest(role, name, guest).",
    )
