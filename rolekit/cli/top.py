"""`top`: what the roles of a running app do and use, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.text import Text

from rolekit.cli.client import find
from rolekit.cli.console import visible
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, settings
from rolekit.cli.ps import COLUMNS, LAST_COLUMNS, NONE, cells, last_cells
from rolekit.cli.tables import grid
from rolekit.cli.watching import again
from rolekit.config import nearest
from rolekit.errors import ConfigError
from rolekit.supervisor.control import Nothing
from rolekit.supervisor.usage import FleetUsage, Usage

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rolekit.supervisor.status import FleetStatus, InstanceStatus, RoleStatus

_USED = (("CPU", True), ("MEMORY", True), ("RESTARTS", True))
_LAG = ("LAG", True)
_ROLES = (*COLUMNS, *_USED, *LAST_COLUMNS)
_PLACES = (
    ("INSTANCE", False),
    ("PID", True),
    ("STATE", False),
    ("IN HAND", True),
    ("RATE/S", True),
    _LAG,
    *_USED,
)
_SPARE = ("READY", "RESTARTS", "IN HAND", "OLDEST")
_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"))


def top(
    role: Annotated[
        str, typer.Argument(metavar="[ROLE]", help="Show each instance of this role.")
    ] = "",
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show live what roles do and use: queues, rates, CPU, memory, restarts."""
    control, status = find(settings(app, sets, config_file))
    names = [one.role for one in status.roles]
    if role and role not in names:
        raise ConfigError(
            f"There is no role {role}.{nearest(role, names)}",
            fix=f"The roles are {', '.join(names)}.",
        )
    display = Display(role)
    again(lambda: control.ask("/top", Nothing(), FleetUsage), display.show, as_json=as_json)


class Display:
    """Turns what a fleet used so far into what it uses now.

    Args:
        role: Whose instances are shown; empty: the roles are.
    """

    def __init__(self, role: str = "") -> None:
        self._role = role
        self._before: FleetUsage | None = None
        self._cores: dict[int, float] = {}
        self._memory: dict[int, int] = {}

    def show(self, now: FleetUsage) -> RenderableType:
        """Draw it."""
        used = [*now.processes, *([now.supervisor] if now.supervisor else [])]
        self._memory = {one.pid: one.memory_bytes for one in used}
        self._cores = _cores(self._before, now)
        self._before = now
        chosen = next((one for one in now.status.roles if one.role == self._role), None)
        if chosen is None:
            table = grid(_ROLES, [self._role_row(role) for role in now.status.roles], _SPARE)
        else:
            table = grid(_PLACES, [self._place_row(place) for place in chosen.places])
        return Group(Text(self._head(now.status), style="bold"), Text(), table)

    def _head(self, status: FleetStatus) -> str:
        instances = sum(role.running for role in status.roles)
        return visible(
            f"{status.app}  {status.state}  {_many(len(status.roles), 'role')}  "
            f"{_many(instances, 'instance')}  "
            f"supervisor {self._cpu([status.pid])} {self._size([status.pid])}"
            + ("  database away" if status.is_database_away else "")
        )

    def _role_row(self, role: RoleStatus) -> tuple[str, ...]:
        pids = [place.pid for place in role.places if place.pid]
        restarts = sum(place.restarts for place in role.places)
        used = (self._cpu(pids), self._size(pids), f"{restarts:,}")
        return (*cells(role), *used, *last_cells(role))

    def _place_row(self, place: InstanceStatus) -> tuple[str, ...]:
        pids = [place.pid] if place.pid else []
        return (
            place.name,
            str(place.pid or NONE),
            place.state,
            f"{place.in_hand:,}",
            f"{place.rate:,.0f}",
            f"{place.lag_ms:,.0f} ms" if place.pid else NONE,
            self._cpu(pids),
            self._size(pids),
            f"{place.restarts:,}",
        )

    def _cpu(self, pids: list[int]) -> str:
        known = [self._cores[pid] for pid in pids if pid in self._cores]
        return f"{100 * sum(known):.0f} %" if known else NONE

    def _size(self, pids: list[int]) -> str:
        known = [self._memory[pid] for pid in pids if pid in self._memory]
        return size(sum(known)) if known else NONE


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count: int) -> str:
    """Say how much memory that is."""
    for one, unit in _UNITS:
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count / 1024:.0f} kB"


def _cores(before: FleetUsage | None, now: FleetUsage) -> dict[int, float]:
    """Return how many cores each process used between two looks."""
    if before is None or now.at_s <= before.at_s:
        return {}
    past = {one.pid: one.cpu_s for one in _all(before)}
    spent_s = now.at_s - before.at_s
    return {
        one.pid: max(0.0, one.cpu_s - past[one.pid]) / spent_s
        for one in _all(now)
        if one.pid in past
    }


def _all(usage: FleetUsage) -> list[Usage]:
    return [*usage.processes, *([usage.supervisor] if usage.supervisor else [])]
