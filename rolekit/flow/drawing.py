"""Random ids, drawn many at a time: asking the system for each takes longer than the rest."""

from __future__ import annotations

import os

from rolekit.model.ids import ID_BYTES

AT_A_TIME = 64

_drawn: list[str] = []
os.register_at_fork(after_in_child=_drawn.clear)
"""Nobody else draws the same: neither a process that was forked from this one."""


def draw_id() -> str:
    """Draw 128 bits that nobody can guess, as 32 hexadecimal digits."""
    if not _drawn:
        many, size = os.urandom(AT_A_TIME * ID_BYTES).hex(), 2 * ID_BYTES
        _drawn.extend(many[at : at + size] for at in range(0, len(many), size))
    return _drawn.pop()
