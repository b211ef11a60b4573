"""`up --dashboard`, with or without an address: Typer knows no option like that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_BIND = "127.0.0.1:8710"
_OPTION = "--dashboard"
_ADDRESS = re.compile(r"[^=]*:\d+")


def filled_in(arguments: Sequence[str]) -> list[str]:
    """Give `--dashboard` the usual address where none follows it: the app may follow, too."""
    filled: list[str] = []
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=True):
        filled.append(argument)
        if argument == _OPTION and not _ADDRESS.fullmatch(after):
            filled.append(DEFAULT_BIND)
    return filled
