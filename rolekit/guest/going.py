r"""What a guest that waits is told, to become the program of a run.

It is a shell of the system that the guest sees, in a sandbox for one run: it reads one line of
its own language and executes that, whose last word is `exec`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHELL = "/bin/sh"
GATE_FD = 6
"""As starting.py numbers it."""
SCRIPT = f"n='\n'; IFS= read -r go <&{GATE_FD} && eval \"$go\""
"""`$n` stands for the ends of lines in arguments: the line itself must have none."""

HOLD = f"echo; read -r _ <&{GATE_FD}"
"""What keeps a sandbox that stays: it says that it is there, and ends with its gate."""


def told(argv: Sequence[str], env: Mapping[str, str]) -> bytes:
    """Write down what the waiting guest is to become, with this besides its environment."""
    exports = "".join(f"export {name}={_quoted(value)}; " for name, value in env.items())
    command = " ".join(map(_quoted, argv))
    line = f"exec {GATE_FD}<&-; unset PWD OLDPWD; {exports}exec {command}\n"
    return os.fsencode(line)


def _quoted(text: str) -> str:
    """Quote for a shell, in one line; `$n` is set by `SCRIPT`."""
    inner = text.replace("'", "'\\''").replace("\n", "'\"$n\"'")
    return f"'{inner}'"
