"""How many instances a role may have: what was written, read and kept within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from rolekit.errors import ConfigError
from rolekit.model.policy import MOST_INSTANCES
from rolekit.supervisor.control import AUTO

if TYPE_CHECKING:
    from rolekit.supervisor.wire import RoleSummary

_log = structlog.get_logger("rolekit.supervisor")


def has_rule(role: RoleSummary) -> bool:
    """Whether a role scales by itself: messages wait for it, and its rule leaves a choice."""
    return bool(role.queues) and role.scale is not None and role.scale.min < role.scale.max


def count_of(role: RoleSummary, change: str, now: int) -> int:
    """Read how many instances a role should have.

    Args:
        role: Which.
        change: "5", or "+2" or "-2" from what it is.
        now: How many it should have now.

    Raises:
        ConfigError: That is no number, or the role may not have so many.
    """
    text = change.strip()
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit():
        auto = f", or {role.name}={AUTO}" if has_rule(role) else ""
        raise ConfigError(
            f"{role.name} cannot have {change!r} instances; {_range(role)} is expected.",
            fix=f"Write {role.name}=5, {role.name}=+2 or {role.name}=-2{auto}.",
        )
    count = now + int(text) if digits != text else int(text)
    _check(role, count, now)
    return count


def count_at_start(role: RoleSummary, instances: str | None) -> int:
    """Return how many instances a role begins with.

    Args:
        role: Which.
        instances: As the settings say; None: they say nothing.

    Raises:
        ConfigError: They do not give a number.
    """
    bounds = role.scale
    if bounds is None:
        return count_of(role, instances or str(role.instances), 0)
    wanted = instances or str(role.instances)
    if not wanted.isascii() or not wanted.isdigit():
        count_of(role, wanted, 0)
    count = min(max(int(wanted), bounds.min), bounds.max)
    if instances is not None and count != int(wanted):
        _log.warning(
            f"the settings ask for {wanted} instances; its class allows {_range(role)}",
            role=role.name,
            instances=count,
        )
    return count


def _range(role: RoleSummary) -> str:
    if role.scale is None:
        return f"a number from 0 to {MOST_INSTANCES:,}"
    if role.scale.min == role.scale.max:
        return f"{role.scale.min}"
    return f"a number from {role.scale.min} to {role.scale.max}"


def _check(role: RoleSummary, count: int, now: int) -> None:
    bounds = role.scale
    if bounds is None:
        if not 0 <= count <= MOST_INSTANCES:
            raise ConfigError(
                f"{role.name} cannot have {count} instances; {_range(role)} is possible.",
                fix=f"It has {now} now.",
            )
    elif bounds.min <= count <= bounds.max:
        return
    elif bounds.min == bounds.max:
        raise ConfigError(
            f"{role.name} cannot be scaled: its class says scale = Scale(min={bounds.min}, "
            f"max={bounds.max}). That is for roles of which there must not be more, such as "
            "one that opens a port of its own.",
            fix="If it is because of a port: set `bind` and use `self.listening`, which all "
            "instances share.",
        )
    else:
        raise ConfigError(
            f"{role.name} may have {bounds.min} to {bounds.max} instances, not {count}.",
            fix=f"Its class says so: scale = Scale(min={bounds.min}, max={bounds.max}).",
        )
