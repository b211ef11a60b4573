"""One run for each message: bytes in, bytes out, and what its exit status means."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from rolekit.errors import GuestFailed, Reject, Retry, RolekitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HOLE = "{}"
TEMPFAIL = 75
NOT_ITS_DAY = range(64, 70)
SHOWN_BYTES = 300


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
            args: For each "{}" of its command, in order; the rest is added to it. What comes
                from a message and begins with "-" may be taken for an option.
            files: Put into its working folder, by name.

        Raises:
            Retry: Its exit status was 75.
            Reject: It was 64 to 69.
            GuestFailed: It was another but 0, or a signal ended it, or a limit.
        """
        ...


@runtime_checkable
class Runs(Protocol):
    """Runs a program once: what a pool gives to `Exec`."""

    async def run_once(
        self, stdin: bytes, arguments: Sequence[str], files: Mapping[str, bytes]
    ) -> Output:
        """Run it to its end; status 128 and more: minus 128, the signal that ended it."""
        ...


class Exec:
    """One run a message: 0 is fine, 75 raises `Retry`, 64 to 69 raise `Reject`.

    Any other status raises `GuestFailed`, which is left to the retry policy.

    Args:
        command: Program and arguments; "{}" stands for an argument of a run.

    Source: sysexits.h.
    """

    def __init__(self, *command: str) -> None:
        self.command = command

    def open(self, stdin: object, stdout: object, /) -> ExecGuest:
        """Return what runs it. A pool calls this, with what starts a run as `stdin`."""
        del stdout
        if not isinstance(stdin, Runs):
            raise RolekitError(
                "Exec.open was called on pipes; there are none before its program runs.",
                fix="Declare it in a role: Guest(Exec(...), host=...).",
            )
        return _Once(self.command, stdin)


class _Once:
    def __init__(self, command: tuple[str, ...], runs: Runs) -> None:
        self._command = command
        self._runs = runs

    async def run(
        self, stdin: bytes = b"", /, *args: str, files: Mapping[str, bytes] | None = None
    ) -> Output:
        """Run it; see `ExecGuest`."""
        arguments = filled(self._command[1:], args)
        for name in files or {}:
            if "/" in name or "\0" in name or name in {"", ".", ".."}:
                raise Reject(f"{name!r} is no name for a file of a guest: it has no folders.")
        output = await self._runs.run_once(stdin, arguments, files or {})
        judge(output)
        return output


def filled(command: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Put arguments into the places of a command, and the rest behind it.

    Raises:
        Reject: There are too few, or the system cannot pass one on.
    """
    if any("\0" in argument for argument in arguments):
        raise Reject("an argument for a guest has a NUL in it, which ends it.")
    left = list(arguments)
    holes = sum(part == HOLE for part in command)
    if holes > len(left):
        raise Reject(f"the command has {holes} places {HOLE}, and {len(left)} arguments came.")
    return [left.pop(0) if part == HOLE else part for part in command] + left


def judge(output: Output) -> None:
    """Raise what an exit status means.

    Raises:
        Retry: 75, EX_TEMPFAIL: to be tried again.
        Reject: 64 to 69: the input is at fault.
        GuestFailed: Anything else but 0.
    """
    if output.status == 0:
        return
    said = output.stderr_tail[-SHOWN_BYTES:].decode(errors="backslashreplace").strip()
    why = f"exit status {output.status}" + (f": {said}" if said else "")
    if output.status == TEMPFAIL:
        raise Retry(why)
    if output.status in NOT_ITS_DAY:
        raise Reject(why)
    if output.status < 0:
        why = f"{_signal(-output.status)} ended it" + (f": {said}" if said else "")
    raise GuestFailed(
        f"The guest failed: {why}.", status=output.status, stderr_tail=output.stderr_tail
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
