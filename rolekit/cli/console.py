"""Printing: results to standard output, everything else to standard error."""

from __future__ import annotations

import sys

import msgspec

from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.supervisor.wire import AppBroken

FAILED = 1
WRONG_USE = 2


def say(line: str) -> None:
    """Print one line for people to standard error, at once."""
    print(visible(line), file=sys.stderr, flush=True)  # noqa: T201 - the command line speaks


def out(line: str) -> None:
    """Print one line of a result to standard output."""
    print(visible(line), flush=True)  # noqa: T201 - the command line speaks


def out_ready(line: str) -> None:
    """Print a line that is made visible already, and may have colours of ours."""
    print(line, flush=True)  # noqa: T201 - the command line speaks


def out_json(value: object) -> None:
    """Print a result for programs."""
    out(msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode())


def report(error: RolekitError) -> int:
    """Print an error as a sentence; return the exit code for it."""
    if isinstance(error, AppBroken):
        _report_app(error)
        return FAILED
    say(f"rolekit: {error.what}")
    if error.fix:
        say(f"    {error.fix}")
    return WRONG_USE if isinstance(error, ConfigError | Unavailable) else FAILED


def _report_app(error: AppBroken) -> None:
    if error.traceback:
        sys.stderr.write(error.traceback)
    count = len(error.problems)
    say(f"{error.app}: {count} problem{'s' if count > 1 else ''}")
    for problem in error.problems:
        say(problem.what)
        if problem.fix:
            say(f"    {problem.fix}")


def visible(text: str) -> str:
    """Escape what a message could use to play with a terminal."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
