"""`ps --why`: what was done with each role lately, what its rule says now, and why."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from rolekit.cli.console import out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.supervisor.status import RoleStatus


def tell(roles: Sequence[RoleStatus]) -> None:
    """Write the reasons of roles that have any."""
    told = [role for role in roles if role.reasons or role.scaling]
    if not told:
        out("\nNothing was done with any role.")
    for role in told:
        out(f"\n{role.role}")
        for reason in role.reasons:
            at = dt.datetime.fromtimestamp(reason.at).astimezone()
            out(f"  {at:%H:%M:%S}  {reason.what}")
        if role.scaling:
            out(f"  {'now':8}  {role.scaling}")
