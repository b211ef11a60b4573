r"""What a guest that waits is told, to become the program of a run.

Without a sandbox the waiting process is forked from the keeper, and is told in JSON. In a
sandbox it is a shell of the system that the guest sees: it reads one line of its own language
and executes that, whose last word is `exec`.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.guest.hosts import Launch

SHELL = "/bin/sh"
GATE_FD = 6
"""As starting.py numbers it."""
SCRIPT = f"n='\n'; IFS= read -r go <&{GATE_FD} && eval \"$go\""
"""`$n` stands for the ends of lines in arguments: the line itself must have none."""

HOLD = f"echo; read -r _ <&{GATE_FD}"
"""What keeps a sandbox that stays: it says that it is there, and ends with its gate."""


class Going(TypedDict):
    """What is told without a sandbox.

    Attributes:
        argv: Program, with its path, and arguments.
        env: Besides what the launch has.
    """

    argv: list[str]
    env: dict[str, str]


def told(launch: Launch, argv: Sequence[str], env: Mapping[str, str]) -> bytes:
    """Write down what the waiting guest is to become."""
    if launch.filter is None:
        return json.dumps(Going(argv=list(argv), env=dict(env))).encode()
    exports = "".join(f"export {name}={_quoted(value)}; " for name, value in env.items())
    command = " ".join(map(_quoted, argv))
    line = f"exec {GATE_FD}<&-; unset PWD OLDPWD; {exports}exec {command}\n"
    return os.fsencode(line)


def _quoted(text: str) -> str:
    """Quote for a shell, in one line; `$n` is set by `SCRIPT`."""
    inner = text.replace("'", "'\\''").replace("\n", "'\"$n\"'")
    return f"'{inner}'"
