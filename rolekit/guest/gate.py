"""How a container is made ready before the message is there that it will run for.

Making one takes longer than most programs run. So the next is started while nobody needs it,
with a few lines of shell that wait at standard input, and become the program when they are
told with which arguments. Each container runs for one message, then it is removed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GATE = r"""
command -v "$0" >/dev/null || {
    echo "the command $0 was not found in the image" >&2
    exit 127
}
n='
'
put() {
    if head --version >/dev/null 2>&1; then head -c "$1" >"$2"
    else dd bs=1 count="$1" of="$2" 2>/dev/null; fi
}
echo
IFS= read -r told || exit 0
eval "$told"
exec "$0" "$@"
"""
"""It reads the line byte by byte, as shells must, so what follows is left for the program.

`head` of GNU takes as many bytes as it is told; others read ahead, and `dd` does not.
"""
READY = b"\x01\0\0\0\0\0\0\x01\n"
"""The frame that its empty line comes in."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def told(arguments: Sequence[str], env: Mapping[str, str], files: Mapping[str, bytes]) -> bytes:
    """Return the line that makes a program of a gate; the bytes of files follow, in order."""
    parts = [
        f"export {name}={quoted(value)}" for name, value in env.items() if _NAME.match(name)
    ]
    parts += [f"put {len(data)} ./{quoted(name)}" for name, data in files.items()]
    parts.append(" ".join(["set --", *map(quoted, arguments)]))
    return ";".join(parts).encode(errors="surrogateescape") + b"\n"


def quoted(text: str) -> str:
    """Write a text so that a shell reads it as one word, on one line."""
    return "'" + text.replace("'", "'\\''").replace("\n", "'\"$n\"'") + "'"
