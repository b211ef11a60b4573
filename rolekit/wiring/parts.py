"""The concrete parts of one process, made from URLs and an app."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rolekit.bell import Bell, Carry
from rolekit.clock import SystemClock
from rolekit.database import Database
from rolekit.errors import ConfigError
from rolekit.flow.runtime import Runtime
from rolekit.model.codec import Codec
from rolekit.roles.app import App
from rolekit.roles.host import Services
from rolekit.store.postgres import PostgresStore
from rolekit.transport.postgres import PostgresTransport

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.model.plan import AppPlan

CONNECTIONS = 12
NOTIFY_BYTES = 7000
"""Postgres takes 8000; a longer list of topics becomes "all"."""


def load_app(reference: str) -> App:
    """Import an app by "module:attribute".

    Raises:
        ConfigError: There is no such thing.
    """
    module, _, attribute = reference.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        app = getattr(importlib.import_module(module), attribute or "app")
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"The app {reference!r} cannot be imported: {error}.",
            fix="Name it as module:attribute, as seen from this folder.",
        ) from error
    if not isinstance(app, App):
        raise ConfigError(f"{reference} is a {type(app).__name__}; an App is expected.")
    return app


@dataclass(slots=True)
class Parts:
    """The concrete parts of one process, not started."""

    services: Services
    database: Database
    broker: Database


def build(plan: AppPlan, owner: int, database: str, broker: str) -> Parts:
    """Make the parts of one process; connects to nothing."""
    state = Database(database, plan.name, max_connections=CONNECTIONS)
    joins = not broker or broker == database
    queues = state if joins else Database(broker, plan.name, max_connections=CONNECTIONS)
    bell = Bell(carry_by_notify(state, owner))
    store = PostgresStore(state, owner=owner, joins=joins)
    store.results_s, store.horizon_s = plan.results_s, plan.horizon_s
    transport = PostgresTransport(queues, owner=owner, bell=bell, joins_store=joins)
    runtime = Runtime(
        plan=plan,
        codec=Codec(plan.types, plan.wire_names, plan.codec),
        store=store,
        transport=transport,
        bell=bell,
        clock=SystemClock(),
        owner=owner,
    )
    return Parts(Services(runtime, intake_limit=_intake_limit()), state, queues)


def _intake_limit() -> int:
    return int(os.environ.get("ROLEKIT_INTAKE_LIMIT", "1000000"))


def carry_by_notify(database: Database, owner: int) -> Carry:
    """Tell other hosts and instances which topics got something, many in one NOTIFY."""
    sql = "select pg_notify($1, $2)"

    async def carry(topics: Iterable[str]) -> None:
        payload = "\n".join([f">{owner}", *topics])
        too_long = len(payload) > NOTIFY_BYTES
        async with database.connection() as connection:
            await connection.execute(
                sql, database.schema, f">{owner}\n*" if too_long else payload
            )

    return carry


def hear(bell: Bell, owner: int, topics: Sequence[str]) -> None:
    """Ring for topics that came from elsewhere; this process heard its own already."""
    if topics and topics[0] == f">{owner}":
        return
    bell.heard(topic for topic in topics if not topic.startswith(">"))
