"""`ps --why`: what was done with each role lately, what its rule says now, and why."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.supervisor.reasons import Reason
    from rolekit.supervisor.status import RoleStatus


def told(roles: Sequence[RoleStatus]) -> list[str]:
    """Give the reasons of roles that have any, line by line, the latest last."""
    lines: list[str] = []
    for role in roles:
        if role.reasons or role.scaling:
            lines += ["", role.role, *(_line(reason) for reason in role.reasons)]
        if role.scaling:
            lines.append(f"  {'now':8}  {role.scaling}")
    return lines or ["", "Nothing was done with any role."]


def _line(reason: Reason) -> str:
    at = dt.datetime.fromtimestamp(reason.at).astimezone()
    times = f" ({reason.times} times)" if reason.times > 1 else ""
    return f"  {at:%H:%M:%S}  {reason.what}{times}"
