"""One state of the app's code: imported once, in a zygote of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolekit.supervisor.wire import RELAY, RoleSummary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolekit.supervisor.forker import Forker
    from rolekit.supervisor.wire import Described


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Version:
    """A state of the app's code; two may live side by side.

    Attributes:
        number: 1 for the one the supervisor started with, and one more for each restart.
        target: "module:attribute".
        roles: By name, the built-in one included.
        forker: Forks instances of it.
    """

    number: int
    target: str
    roles: Mapping[str, RoleSummary]
    forker: Forker


def version_of(number: int, target: str, app: Described, forker: Forker) -> Version:
    """Make a version of what a zygote found when it imported the app."""
    roles = {role.name: role for role in (*app.roles, RoleSummary(name=RELAY))}
    return Version(number=number, target=target, roles=roles, forker=forker)
