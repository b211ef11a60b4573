"""Random ids, drawn many at a time: asking the system for each takes longer than the rest."""

from __future__ import annotations

import os

from rolekit.model.ids import ID_BYTES, all_given_by

AT_A_TIME = 64

_drawn: dict[str, list[str]] = {}
os.register_at_fork(after_in_child=_drawn.clear)
"""By app. Nobody else draws the same: neither a process that was forked from this one."""


def draw_root(app: str) -> str:
    """Draw an id that nobody can guess for a root message of an app, which `given_by` gave."""
    drawn = _drawn.get(app)
    if not drawn:
        many, size = os.urandom(AT_A_TIME * ID_BYTES).hex(), 2 * ID_BYTES
        ids = [many[at : at + size] for at in range(0, len(many), size)]
        drawn = _drawn[app] = all_given_by(app, ids)
    return drawn.pop()
