"""`ps`, `scale`, `stop`: talk to a supervisor that runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.client import GONE, Control, find
from rolekit.cli.console import out, out_json, say, table
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, settings
from rolekit.cli.why import tell
from rolekit.errors import ConfigError, RolekitError
from rolekit.supervisor.control import Scaled, ScaleOrder, StopOrder, Stopping
from rolekit.supervisor.counts import AUTO

if TYPE_CHECKING:
    from rolekit.supervisor.status import RoleStatus

_COLUMNS = (
    ("ROLE", False),
    ("INSTANCES", True),
    ("READY", True),
    ("IN HAND", True),
    ("WAITING", True),
    ("OLDEST", True),
    ("RATE/S", True),
    ("DEAD", True),
    ("", False),
)
_NONE = "\N{EN DASH}"
_LOOK_S = 0.1
_PATIENCE_S = 30  # beyond the grace period


def ps(
    *,
    why: Annotated[
        bool, typer.Option("--why", help="Say what was done with each role lately, and why.")
    ] = False,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the roles of a running app: instances, queues, rates, dead letters."""
    _, status = find(settings(app, sets, config_file))
    if as_json:
        out_json(status)
        return
    table(_COLUMNS, [_row(role) for role in status.roles])
    if why:
        tell(status.roles)
    if status.is_database_away:
        say("The database is away: queues are not known.")


def scale(
    changes: Annotated[
        list[str],
        typer.Argument(metavar="ROLE=N…", help="N, +N or -N instances; auto: its rule."),
    ],
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Change how many instances roles have."""
    orders = [_order(change) for change in changes]
    control, status = find(settings(app, sets, config_file))
    done = [control.order("/scale", order, Scaled) for order in orders]
    if as_json:
        out_json(done)
        return
    ruled = {role.role for role in status.roles if role.scaling}
    for order, one in zip(orders, done, strict=True):
        line = f"{one.role}: {one.instances} instance{'' if one.instances == 1 else 's'}"
        if order.count == AUTO:
            line += ", by its rule from now on"
        elif one.role in ruled:
            line += f", until `rolekit scale {one.role}={AUTO}`"
        out(line)


def stop(
    *,
    hard: Annotated[
        bool, typer.Option("--hard", help="Do not wait for what is in hand.")
    ] = False,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
) -> None:
    """Stop a running app: it finishes what is in hand, then ends."""
    config = settings(app, sets, config_file)
    control, status = find(config)
    control.order("/stop", StopOrder(hard=hard), Stopping)
    until = time.monotonic() + config.grace_s + _PATIENCE_S
    while _answers(control):
        if time.monotonic() > until:
            raise RolekitError(
                f"{status.app} did not stop in {config.grace_s + _PATIENCE_S:g} s.",
                fix="`rolekit stop --hard` does not wait for what is in hand.",
            )
        time.sleep(_LOOK_S)
    out(f"{status.app} has stopped.")


def _order(change: str) -> ScaleOrder:
    role, equals, count = change.partition("=")
    if not equals or not role or not count:
        raise ConfigError(
            f"{change!r} does not say how many instances of which role.",
            fix="Write ROLE=N, ROLE=+N or ROLE=-N, for example Deliverer=5; or ROLE=auto.",
        )
    return ScaleOrder(role, count)


def _answers(control: Control) -> bool:
    try:
        control.status()
    except GONE:
        return False
    return True


def _row(role: RoleStatus) -> tuple[str, ...]:
    return (
        role.role,
        f"{role.running}/{role.instances}",
        f"{role.ready:,}",
        f"{role.in_hand:,}",
        _NONE if role.waiting is None else f"{role.waiting:,}",
        f"{role.oldest_s:.1f} s" if role.waiting and role.oldest_s is not None else _NONE,
        f"{role.rate:,.0f}",
        _NONE if role.dead is None else f"{role.dead:,}",
        _note(role),
    )


def _note(role: RoleStatus) -> str:
    state = "" if role.state == "ready" else role.state
    told = ": ".join(part for part in (state, role.why) if part)
    return "; ".join(part for part in (told, *role.notes) if part) or role.address
