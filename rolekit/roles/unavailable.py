"""What rolekit declares but does not do yet: refused at start, never silently ignored.

Whoever builds one of these deletes its line here.
"""

from __future__ import annotations

from rolekit.model.graph import Problem


def unavailable_in(*, observed: bool) -> list[Problem]:
    """Name everything an app uses that is not available yet, one sentence each."""
    named = [("observers=[...]", "Being told of each event")] if observed else []
    return [Problem(where, f"{what} is not available yet.") for where, what in named]
