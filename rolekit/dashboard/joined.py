"""Several supervisors of one app as one: what a page shows where each container has its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from rolekit.supervisor.status import FleetStatus, InstanceStatus, RoleStatus
from rolekit.supervisor.usage import FleetUsage, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PIDS = 1 << 22
"""Ids of processes are below: the n-th supervisor's are shifted by n times that. proc(5)"""


class JoinedStatus(FleetStatus, frozen=True, kw_only=True):
    """What those say that answer.

    Attributes:
        missing: Those that do not.
    """

    missing: tuple[str, ...] = ()


def join(told: Sequence[tuple[str, int, FleetStatus]], missing: Sequence[str]) -> JoinedStatus:
    """Put together what supervisors of one app say.

    Args:
        told: Where each is, its number, and what it says; at least one.
        missing: Those that do not answer.
    """
    statuses = [status for _, _, status in told]
    roles: dict[str, list[RoleStatus]] = {}
    for at, number, status in told:
        for role in status.roles:
            places = tuple(_placed(place, at, number) for place in role.places)
            roles.setdefault(role.role, []).append(replace(role, places=places))
    return JoinedStatus(
        app=statuses[0].app,
        target=statuses[0].target,
        pid=told[0][1] * PIDS + statuses[0].pid,
        state=_worst(one.state for one in statuses),
        is_database_away=any(one.is_database_away for one in statuses),
        roles=tuple(_role(each) for each in roles.values()),
        missing=tuple(missing),
    )


def join_usage(
    told: Sequence[tuple[str, int, FleetUsage]], missing: Sequence[str], at_s: float
) -> FleetUsage:
    """Put together what they use, at a time of one clock; supervisors count as one process."""
    supervisors = [one.supervisor for _, _, one in told if one.supervisor]
    status = join([(at, number, one.status) for at, number, one in told], missing)
    return FleetUsage(
        at_s=at_s,
        status=status,
        supervisor=Usage(
            status.pid,
            sum(one.cpu_s for one in supervisors),
            sum(one.memory_bytes for one in supervisors),
        ),
        processes=tuple(
            Usage(number * PIDS + each.pid, each.cpu_s, each.memory_bytes)
            for _, number, one in told
            for each in one.processes
        ),
    )


def _placed(place: InstanceStatus, at: str, number: int) -> InstanceStatus:
    pid = None if place.pid is None else number * PIDS + place.pid
    return replace(place, name=f"{place.name} at {at}", pid=pid)


def _role(each: Sequence[RoleStatus]) -> RoleStatus:
    """Add up instances; all see the same queues, so of those the largest number counts."""
    if len(each) == 1:
        return each[0]
    reasons = sorted((one for role in each for one in role.reasons), key=lambda one: one.at)
    return RoleStatus(
        role=each[0].role,
        state=_worst(one.state for one in each),
        running=sum(one.running for one in each),
        instances=sum(one.instances for one in each),
        ready=sum(one.ready for one in each),
        in_hand=sum(one.in_hand for one in each),
        waiting=max((one.waiting for one in each if one.waiting is not None), default=None),
        oldest_s=max((one.oldest_s for one in each if one.oldest_s is not None), default=None),
        rate=sum(one.rate for one in each),
        dead=max((one.dead for one in each if one.dead is not None), default=None),
        address=next((one.address for one in each if one.address), ""),
        why=next((one.why for one in each if one.why), ""),
        notes=tuple(dict.fromkeys(note for one in each for note in one.notes)),
        scaling=next((one.scaling for one in each if one.scaling), ""),
        reasons=tuple(reasons),
        places=tuple(place for one in each for place in one.places),
    )


def _worst(states: Iterable[str]) -> str:
    """Return the state that people should look at: any that is not "ready"."""
    order = ("refused", "crash-looping", "stopping", "draining", "drained", "starting", "ready")
    return min(states, key=lambda one: order.index(one) if one in order else 0)
