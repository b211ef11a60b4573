"""`scale`, `drain`, `stop`: change what a supervisor does that runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.client import GONE, Control, find
from rolekit.cli.console import out, out_json
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, settings
from rolekit.errors import ConfigError, RolekitError
from rolekit.supervisor.control import (
    AUTO,
    Drained,
    DrainOrder,
    Scaled,
    ScaleOrder,
    StopOrder,
    Stopping,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from rolekit.config import Config

_LOOK_S = 0.1
_PATIENCE_S = 30  # beyond the grace period


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
        line = f"{one.role}: {_instances(one.instances)}"
        if order.count == AUTO:
            line += ", by its rule from now on"
        elif one.role in ruled:
            line += f", until `rolekit scale {one.role}={AUTO}`"
        out(line)


def drain(  # noqa: PLR0913 - each is an option of the command
    roles: Annotated[list[str], typer.Argument(metavar="ROLE…", help="Class names.")],
    *,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take up again what was drained.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Until nothing is in hand.")
    ] = True,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let roles finish what they have in hand, and take no more."""
    config = settings(app, sets, config_file)
    control, _ = find(config)
    done = [control.order("/drain", DrainOrder(role, undo), Drained) for role in roles]
    if wait and not undo:
        _wait(
            lambda: _are_empty(control, roles),
            config,
            RolekitError(
                f"{', '.join(roles)}: instances still have something in hand.",
                fix="They finish it; `rolekit ps` shows how much is left.",
            ),
        )
    if as_json:
        out_json(done)
        return
    for one in done:
        out(
            f"{one.role}: {_instances(one.instances)}"
            if undo
            else f"{one.role} is {'drained' if wait else 'draining'}; `rolekit drain --undo "
            f"{one.role}` brings back {_instances(one.instances)}."
        )


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
    _wait(
        lambda: not _answers(control),
        config,
        RolekitError(
            f"{status.app} did not stop in {config.grace_s + _PATIENCE_S:g} s.",
            fix="`rolekit stop --hard` does not wait for what is in hand.",
        ),
    )
    out(f"{status.app} has stopped.")


def _order(change: str) -> ScaleOrder:
    role, equals, count = change.partition("=")
    if not equals or not role or not count:
        raise ConfigError(
            f"{change!r} does not say how many instances of which role.",
            fix="Write ROLE=N, ROLE=+N or ROLE=-N, for example Deliverer=5; or ROLE=auto.",
        )
    return ScaleOrder(role, count)


def _instances(count: int) -> str:
    return f"{count} instance{'' if count == 1 else 's'}"


def _wait(is_done: Callable[[], bool], config: Config, otherwise: RolekitError) -> None:
    until = time.monotonic() + config.grace_s + _PATIENCE_S
    while not is_done():
        if time.monotonic() > until:
            raise otherwise
        time.sleep(_LOOK_S)


def _are_empty(control: Control, roles: Collection[str]) -> bool:
    return not any(one.running for one in control.status().roles if one.role in roles)


def _answers(control: Control) -> bool:
    try:
        control.status()
    except GONE:
        return False
    return True
