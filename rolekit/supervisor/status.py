"""What `rolekit ps` shows: the fleet as data."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

import msgspec

from rolekit.supervisor.host import is_told
from rolekit.supervisor.reasons import Reason
from rolekit.supervisor.wire import RELAY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.supervisor.autoscale import Autoscaler
    from rolekit.supervisor.fleet import Fleet
    from rolekit.supervisor.host import QueueDepth
    from rolekit.supervisor.instance import Instance
    from rolekit.supervisor.slot import Slot
    from rolekit.supervisor.wire import RoleSummary


class Saying(Protocol):
    """What says something about its handlers."""

    @property
    def notes(self) -> Mapping[str, str]:
        """By handler."""
        ...


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One place of a role.

    Attributes:
        pid: Of the process that fills it; None while none does.
        restarts: How often it was filled again.
        rate: Deliveries settled per second.
        version: Of the app's code; counts the restarts that were asked for, from 1.
        lag_ms: How late its event loop ran its timers, when it said so last.
    """

    name: str
    state: str
    pid: int | None
    restarts: int
    in_hand: int
    version: int = 1
    rate: float = 0
    lag_ms: float = 0


class RoleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One role.

    Attributes:
        state: ready, starting, stopping, draining, drained, crash-looping or refused.
        running: Instances that have a process.
        instances: Instances it should have.
        in_hand: Deliveries its instances have taken and not settled.
        waiting: Messages nobody holds; None: it has no queue, or the database is away, or the
            broker is too busy to say.
        oldest_s: Age of the oldest of them.
        rate: Deliveries settled per second.
        dead: Open dead letters.
        address: Where it listens, or empty.
        why: Of a role that refused to start.
        notes: What people should know of it and of its handlers now, one sentence each.
        scaling: What its rule decides now, and why; empty: it has none.
        reasons: What was done with it lately, and why; latest last.
    """

    role: str
    state: str
    running: int
    instances: int
    ready: int
    in_hand: int
    waiting: int | None
    oldest_s: float | None
    rate: float
    dead: int | None
    address: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()
    scaling: str = ""
    reasons: tuple[Reason, ...] = ()
    places: tuple[InstanceStatus, ...] = ()


class FleetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All of an app on this host.

    Attributes:
        app: Its name.
        target: "module:attribute".
        pid: Of the supervisor.
        state: starting, ready or stopping.
        is_database_away: Queues could not be read.
    """

    app: str
    target: str
    pid: int
    state: str
    is_database_away: bool
    roles: tuple[RoleStatus, ...]


def roles_of(
    fleet: Fleet,
    depths: Mapping[str, QueueDepth] | None,
    addresses: Mapping[str, str],
    scaler: Autoscaler,
) -> tuple[RoleStatus, ...]:
    """Describe each role; the built-in one only when something is wrong with it."""
    return tuple(
        _role(fleet, role, depths, addresses.get(role.name, ""), scaler)
        for role in fleet.roles.values()
        if role.name != RELAY or _state(fleet, RELAY) != "ready"
    )


def _role(
    fleet: Fleet,
    role: RoleSummary,
    depths: Mapping[str, QueueDepth] | None,
    address: str,
    scaler: Autoscaler,
) -> RoleStatus:
    slots = [*fleet.slots(role.name), *fleet.leaving(role.name)]
    instances = [slot.instance for slot in slots if slot.instance is not None]
    # A keyed handler has no queue of its own, but dead letters.
    names = dict.fromkeys((*role.handlers, *role.queues))
    queues = [depths[name] for name in names if name in depths] if depths else []
    ready = sum(one.is_ready for one in instances)
    told = queues if all(is_told(one, ready) for one in queues) else []
    about = (fleet.notes.get(role.name), scaler.note(role.name))
    return RoleStatus(
        role=role.name,
        state=_state(fleet, role.name),
        running=len(instances),
        instances=fleet.wanted(role.name),
        ready=ready,
        in_hand=sum(one.in_hand for one in instances),
        waiting=sum(one.waiting for one in told) if told else None,
        oldest_s=_oldest_s(told, instances),
        rate=sum(one.rate for one in instances),
        dead=sum(one.dead for one in queues) if queues else None,
        address=address,
        why=next((slot.refused for slot in slots if slot.refused), ""),
        notes=(*filter(None, about), *notes_of(instances)),
        scaling=scaler.now(role.name),
        reasons=fleet.reasons.of(role.name),
        places=tuple(_place(slot) for slot in slots),
    )


def _oldest_s(queues: Sequence[QueueDepth], instances: Sequence[Instance]) -> float | None:
    """Return the age of what waits; where a broker does not tell, of what came out last."""
    came_s = (one.age_s for one in instances if one.age_s is not None)
    return max((*(one.oldest_s for one in queues), *came_s)) if queues else None


def notes_of(instances: Sequence[Saying]) -> tuple[str, ...]:
    """Say of each handler what its instances say, and how many of them where not all do."""
    counts = Counter(
        (handler, note) for one in instances for handler, note in one.notes.items()
    )
    return tuple(
        f"{handler}: {note}" + (f" in {n} of {len(instances)}" if n < len(instances) else "")
        for (handler, note), n in sorted(counts.items())
    )


def _state(fleet: Fleet, role: str) -> str:
    slots: Sequence[Slot] = fleet.slots(role)
    states = {slot.state for slot in slots}
    if "refused" in states:
        return "refused"
    if fleet.is_stopping:
        return "stopping"
    if fleet.is_drained(role):
        return "draining" if fleet.leaving(role) else "drained"
    if any(slot.is_crash_looping for slot in slots):
        return "crash-looping"
    return "ready" if states <= {"ready"} else "starting"


def _place(slot: Slot) -> InstanceStatus:
    instance = slot.instance
    return InstanceStatus(
        name=slot.name,
        state="crash-looping" if slot.is_crash_looping else slot.state,
        pid=instance.pid if instance else None,
        restarts=slot.restarts,
        in_hand=instance.in_hand if instance else 0,
        version=slot.version,
        rate=instance.rate if instance else 0,
        lag_ms=instance.lag_ms if instance else 0,
    )
