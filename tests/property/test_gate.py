"""What a gate is told arrives as it was meant, whatever is in it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rolekit.guest import gate

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
NAMES = st.from_regex(r"[A-Za-z0-9 '$`\"\\\n-]{1,12}", fullmatch=True)


@settings(max_examples=40, deadline=None)
@given(
    arguments=st.lists(TEXTS, max_size=4),
    value=TEXTS,
    files=st.dictionaries(NAMES, st.binary(max_size=300), max_size=2),
    stdin=st.binary(max_size=200),
)
def test_a_gate_becomes_the_program_that_it_is_told_of(
    arguments: list[str], value: str, files: dict[str, bytes], stdin: bytes
) -> None:
    program = 'printf "%s\\0" "$ROLEKIT_MESSAGE_ID" "$@"; cat'
    line = gate.told(["-c", program, "sh", *arguments], {"ROLEKIT_MESSAGE_ID": value}, files)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["sh", "-c", gate.GATE, "sh"],
            input=line + b"".join(files.values()) + stdin,
            capture_output=True,
            check=True,
            cwd=folder,
        )
        written = {path.name: path.read_bytes() for path in Path(folder).iterdir()}

    expected = b"".join(text.encode() + b"\0" for text in [value, *arguments])
    assert done.stdout == b"\n" + expected + stdin
    assert written == files


def test_a_command_that_is_not_there_is_said() -> None:
    done = subprocess.run(
        ["sh", "-c", gate.GATE, "no-such-program"], capture_output=True, check=False
    )

    assert done.returncode == 127
    assert b"the command no-such-program was not found" in done.stderr
