"""`ps`: the roles of a running app, once, or again each second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.text import Text

from rolekit.cli.client import find, is_ready
from rolekit.cli.console import FAILED, out, out_json, visible
from rolekit.cli.glance import NOT_READY, READY
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, settings
from rolekit.cli.tables import console, grid
from rolekit.cli.watching import again
from rolekit.cli.why import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from rolekit.supervisor.status import FleetStatus, RoleStatus

COLUMNS = (
    ("ROLE", False),
    ("INSTANCES", True),
    ("READY", True),
    ("IN HAND", True),
    ("WAITING", True),
    ("OLDEST", True),
    ("RATE/S", True),
)
LAST_COLUMNS = (("DEAD", True), ("", False))
NONE = "\N{EN DASH}"


def ps(  # noqa: PLR0913 - each is an option of the command
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again each second, until Ctrl-C.")
    ] = False,
    why: Annotated[
        bool, typer.Option("--why", help="Say what was done with each role lately, and why.")
    ] = False,
    ready: Annotated[
        bool, typer.Option("--ready", help="Say only whether all is ready; 1 if not.")
    ] = False,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the roles of a running app: instances, queues, rates, dead letters."""
    config = settings(app, sets, config_file)
    if ready:
        _say_ready(is_ready(config), as_json=as_json)
        return
    control, status = find(config)
    if watch:
        again(control.status_again, lambda now: _shown(now, why=why), as_json=as_json)
    elif as_json:
        out_json(status)
    else:
        console().print(_shown(status, why=why))


def _say_ready(is_so: bool, *, as_json: bool) -> None:  # noqa: FBT001 - what it is about
    if as_json:
        out_json({"ready": is_so})
    else:
        out(READY if is_so else NOT_READY)
    if not is_so:
        raise typer.Exit(FAILED)


def _shown(status: FleetStatus, *, why: bool) -> RenderableType:
    parts: list[RenderableType] = [_table(status.roles)]
    if why:
        parts += [Text(visible(line)) for line in told(status.roles)]
    if status.is_database_away:
        parts.append(Text("The database is away: queues are not known."))
    return Group(*parts)


def _table(roles: Sequence[RoleStatus]) -> RenderableType:
    return grid((*COLUMNS, *LAST_COLUMNS), [(*cells(one), *last_cells(one)) for one in roles])


def cells(role: RoleStatus) -> tuple[str, ...]:
    """Return what stands in `COLUMNS` for a role."""
    return (
        role.role,
        f"{role.running}/{role.instances}",
        f"{role.ready:,}",
        f"{role.in_hand:,}",
        NONE if role.waiting is None else f"{role.waiting:,}",
        _oldest(role),
        f"{role.rate:,.0f}",
    )


def last_cells(role: RoleStatus) -> tuple[str, str]:
    """Return what stands in `LAST_COLUMNS` for a role."""
    return NONE if role.dead is None else f"{role.dead:,}", _remark(role)


def _oldest(role: RoleStatus) -> str:
    """Say how old the oldest message is that waits."""
    return f"{role.oldest_s:.1f} s" if role.waiting and role.oldest_s is not None else NONE


def _remark(role: RoleStatus) -> str:
    """Say what is unusual about a role, or where it listens."""
    state = "" if role.state == "ready" else role.state
    told = ": ".join(part for part in (state, role.why) if part)
    return "; ".join(part for part in (told, *role.notes) if part) or role.address
