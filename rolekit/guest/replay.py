"""Recorded answers of a guest: a folder of inputs, each with what came out of it.

Beside each input NAME are

    NAME.out       what it answered, byte for byte
    NAME.status    how it ended, in a word or two
    NAME.args      (an Exec, if it is wanted) arguments, one a line

so that a folder can be read, kept and compared by the tools that people have for that.
"""

from __future__ import annotations

import asyncio
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rolekit.errors import ConfigError, GuestFailed, Reject, Retry
from rolekit.guest.file_guest import Files
from rolekit.guest.http_guest import Http
from rolekit.guest.mail_guest import Lmtp, Smtp
from rolekit.guest.once import Exec
from rolekit.guest.talks import Frames, Lines

if TYPE_CHECKING:
    from pathlib import Path

OUT, STATUS, ARGS = ".out", ".status", ".args"
SHOWN_LINES = 20
SHOWN_BYTES = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What a guest did with one input.

    Attributes:
        out: What it answered.
        status: How it ended: "exit 0", "status 200", "answered", "GuestFailed", …
        why: More about it, for people; not compared.
    """

    out: bytes
    status: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One input, and what was recorded of it.

    Attributes:
        path: Of the input.
    """

    path: Path

    @property
    def name(self) -> str:
        """Of the input."""
        return self.path.name

    @property
    def is_recorded(self) -> bool:
        """Whether there is an answer to compare with."""
        return self._beside(OUT).is_file() and self._beside(STATUS).is_file()

    def given(self) -> tuple[bytes, list[str]]:
        """Return the input, and the arguments that go with it. This may block."""
        beside = self._beside(ARGS)
        arguments = beside.read_text().splitlines() if beside.is_file() else []
        return self.path.read_bytes(), arguments

    def recorded(self) -> Answer:
        """Return the answer to compare with."""
        return Answer(self._beside(OUT).read_bytes(), self._beside(STATUS).read_text().strip())

    def record(self, answer: Answer) -> None:
        """Let this be the answer to compare with."""
        self._beside(OUT).write_bytes(answer.out)
        self._beside(STATUS).write_text(f"{answer.status}\n")

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)


def cases_in(folder: Path) -> list[Case]:
    """Find the inputs of a folder, by name; hidden files are none."""
    return [
        Case(path)
        for path in sorted(folder.iterdir())
        if path.is_file()
        and not path.name.startswith(".")
        and path.suffix not in {OUT, STATUS, ARGS}
    ]


def why_unrecordable(speaks: object) -> str:
    """Say why a guest cannot be recorded; empty: it can."""
    if isinstance(speaks, (Exec, Lines, Frames, Http, Files)):
        return ""
    if isinstance(speaks, (Smtp, Lmtp)):
        return "what it does with a mail is not in its reply."
    return (
        "it speaks a protocol of yours. Exec, Lines, Frames, Http and Files can be recorded: "
        "their inputs are bytes."
    )


async def run_case(speaks: object, guest: Any, case: Case) -> Answer:  # noqa: ANN401
    """Ask a guest.

    Args:
        speaks: Its protocol.
        guest: What a handler uses.
        case: What to ask.

    Raises:
        ConfigError: The input is none for this protocol.
    """
    try:
        return await _asked(speaks, guest, case)
    except (Retry, Reject, GuestFailed) as error:
        status = type(error).__name__
        if isinstance(error, GuestFailed) and error.status is not None:
            status += f" {error.status}"
        elif "exit status" in str(error):
            status += " " + str(error).partition("exit status ")[2].partition(":")[0]
        return Answer(b"", status, str(error))


async def _asked(speaks: object, guest: Any, case: Case) -> Answer:  # noqa: ANN401
    data, arguments = await asyncio.to_thread(case.given)
    if isinstance(speaks, Exec):
        return Answer((await guest.run(data, *arguments)).stdout, "exit 0")
    if isinstance(speaks, Lines):
        lines = [await guest.ask(line) for line in data.splitlines()]
        return Answer(b"".join(line + b"\n" for line in lines), "answered")
    if isinstance(speaks, Frames):
        return Answer(await guest.ask(data), "answered")
    if isinstance(speaks, Files):
        left = await guest.drop(data, name=case.name)
        return Answer(left.body, f"file {left.name}")
    method, path, headers, body = _request(case, data)
    answer = await guest.request(method, path, headers=headers, body=body)
    kind = answer.header("content-type")
    return Answer(answer.body, f"status {answer.status} {kind}".strip())


def _request(case: Case, data: bytes) -> tuple[str, str, dict[str, str], bytes]:
    """Read a request out of a file: METHOD PATH, headers, an empty line, body."""
    head, _, body = data.replace(b"\r\n", b"\n", 1).partition(b"\n\n")
    first, *rest = head.decode("latin-1").splitlines() or [""]
    method, _, path = first.partition(" ")
    headers = [line.partition(":") for line in rest]
    if not path.startswith("/") or not all(mark for _, mark, _ in headers):
        raise ConfigError(
            f"{str(case.path)!r} begins with {first[:80]!r}, which is no request.",
            fix="Write METHOD /PATH, a header in each line, an empty line, and the body.",
        )
    return method, path, {name: value.strip() for name, _, value in headers}, body


def differences(case: Case, answer: Answer) -> list[str]:
    """Say in lines how an answer differs from what was recorded; none: it does not."""
    was = case.recorded()
    lines: list[str] = []
    if was.status != answer.status:
        why = f" ({answer.why})" if answer.why else ""
        lines.append(f"{was.status} was recorded, and it is {answer.status}{why}")
    if was.out != answer.out:
        lines += _of_bytes(was.out, answer.out)
    return lines


def _of_bytes(was: bytes, now: bytes) -> list[str]:
    sizes = f"{len(was)} bytes were recorded, and there are {len(now)}"
    try:
        old, new = was.decode().splitlines(), now.decode().splitlines()
    except UnicodeDecodeError:
        old, new = [], []
    marks = list(difflib.unified_diff(old, new, n=1, lineterm=""))[2:]
    if not marks or b"\0" in was + now:  # no text, or only ends of lines differ
        pairs = enumerate(zip(was, now, strict=False))
        at = next((place for place, (a, b) in pairs if a != b), min(len(was), len(now)))
        shown = [part[at : at + SHOWN_BYTES].hex(" ") or "(end)" for part in (was, now)]
        return [f"{sizes}; from byte {at} on", f"  - {shown[0]}", f"  + {shown[1]}"]
    lines = [f"  {mark}" for mark in marks]
    more = len(lines) - SHOWN_LINES
    return [sizes, *lines[:SHOWN_LINES], *([f"  … {more} more lines"] if more > 0 else [])]
