"""What rolekit declares but does not do yet: refused at start, never silently ignored.

Whoever builds one of these deletes its line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.guest.pool import Guest
from rolekit.model.graph import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.roles.base import Role


def unavailable_in(
    roles: Iterable[type[Role]],
    *,
    observed: bool,
) -> list[Problem]:
    """Name everything an app uses that is not available yet, one sentence each."""
    named = [
        (f"{role.__name__}.{name}", "a Guest (guests come with a later part)")
        for role in roles
        for cls in reversed(role.__mro__)
        for name, value in vars(cls).items()
        if isinstance(value, Guest)
    ]
    named += [("observers=[...]", "Being told of each event")] if observed else []
    return [Problem(where, f"{what} is not available yet.") for where, what in named]
