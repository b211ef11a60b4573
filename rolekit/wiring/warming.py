"""What a zygote does once so that no instance has to: modules, settings, the plan.

An instance that imports a driver itself needs 100 ms of CPU and 12 MB for it, each time.
What is read or built in the zygote costs instances nothing, as long as they only read it.
"""

from __future__ import annotations

import importlib
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import structlog

from rolekit import config as configuration
from rolekit.errors import RolekitError
from rolekit.observe import logs
from rolekit.supervisor import sharing
from rolekit.wiring.holding import is_rabbit
from rolekit.wiring.parts import build, codec_of, load_app, settled

if TYPE_CHECKING:
    from rolekit.config import Config
    from rolekit.model.codec import Codec
    from rolekit.model.plan import AppPlan
    from rolekit.roles.app import App

log = structlog.get_logger("rolekit.zygote")

LATE_IMPORTS = ("anyio._backends._asyncio", "encodings.idna", "asyncpg.pool")
"""Modules that are imported where they are first needed, which is in every instance."""


@dataclass(frozen=True, slots=True)
class Common:
    """What is the same for all instances of an app that one process forks."""

    app: App
    plan: AppPlan
    settings: Config
    codec: Codec


@cache
def common(app: str) -> Common:
    """Read it, once in a process and those that it forks.

    Args:
        app: "module:attribute".

    Raises:
        ConfigError: The settings do not fit the app.
    """
    settings = configuration.load(os.environ)
    found = load_app(app)
    plan = settled(found.plan(), settings)
    codec = codec_of(plan)
    codec.prepare()
    return Common(found, plan, settings, codec)


def warm_up(app: str, broker: str) -> None:
    """Load what instances of this app will need; connects to nothing, starts no thread.

    Args:
        app: "module:attribute".
        broker: URL; empty: the database.
    """
    for name in LATE_IMPORTS:
        importlib.import_module(name)
    if is_rabbit(broker):
        importlib.import_module("rolekit.transport.rabbitmq.seam").check_seam()
        importlib.import_module("rolekit.transport.rabbitmq.session").mute_drivers()
    # What is wrong with the settings is said by the instances, to those who see them.
    with suppress(RolekitError):
        shared = common(app)
        logs.set_up(shared.settings.log, shared.settings.log_format, app=shared.app.name)
        build(shared.plan, 0, "postgresql://localhost/nothing", broker)
    if is_rabbit(broker):
        _rehearse()


def _rehearse() -> None:
    """Have the code that instances run put together; they only need more memory without."""
    rehearsal = importlib.import_module("rolekit.wiring.rehearsal")
    try:
        ran, made = rehearsal.rehearse()
        sharing.gather(ran)
        sharing.settle(made)
        rehearsal.run_in()  # after it: a copy of code starts as if it had never run
    except Exception as error:  # noqa: BLE001 - whatever this system does not let it do
        log.debug("not rehearsed", error=repr(error))
