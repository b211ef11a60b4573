"""`ps`, `scale`, `stop`: talk to a supervisor that runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.client import GONE, Control, find
from rolekit.cli.console import out, out_json, say, table
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, settings
from rolekit.errors import ConfigError, RolekitError
from rolekit.supervisor.control import Scaled, ScaleOrder, StopOrder, Stopping

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
    if status.is_database_away:
        say("The database is away: queues are not known.")


def scale(
    changes: Annotated[
        list[str], typer.Argument(metavar="ROLE=N…", help="N, +N or -N instances.")
    ],
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Change how many instances roles have."""
    orders = [_order(change) for change in changes]
    control, _ = find(settings(app, sets, config_file))
    done = [control.order("/scale", order, Scaled) for order in orders]
    if as_json:
        out_json(done)
        return
    for one in done:
        out(f"{one.role}: {one.instances} instance{'' if one.instances == 1 else 's'}")


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
            fix="Write ROLE=N, ROLE=+N or ROLE=-N, for example Deliverer=5.",
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
