"""The concrete parts of one process, made from URLs and an app."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rolekit.bell import Bell, Carry
from rolekit.clock import SystemClock
from rolekit.database import Database
from rolekit.errors import ConfigError
from rolekit.flow.runtime import Runtime
from rolekit.model.codec import Codec
from rolekit.roles.app import App
from rolekit.roles.services import Services
from rolekit.store.postgres import PostgresStore
from rolekit.transport.base import INBOUND
from rolekit.transport.long_work import LongWorkTransport
from rolekit.transport.postgres import PostgresTransport
from rolekit.wiring.broker import joins_store, rabbit_transport, refuse_sources
from rolekit.wiring.handlers import changed_handlers
from rolekit.wiring.holding import is_rabbit, long_queues

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rolekit.config import Config
    from rolekit.flow.tracing import Tracing
    from rolekit.model.plan import AppPlan
    from rolekit.model.sample import Sample
    from rolekit.observe.meters import Meters
    from rolekit.transport.base import Transport

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


def settled(plan: AppPlan, config: Config) -> AppPlan:
    """Return the plan of an app with what the settings say instead of the code.

    Raises:
        ConfigError: They name a handler that is not there, or change what cannot be changed.
    """
    given = {
        name: value
        for name in ("horizon_s", "results_s")
        if (value := getattr(config, name)) is not None
    }
    handlers = changed_handlers(plan, config.handlers)
    return replace(plan, handlers=handlers, **given)


@dataclass(slots=True)
class Parts:
    """The concrete parts of one process, not started.

    Attributes:
        of_broker: Says the numbers of its end of the broker.
    """

    services: Services
    database: Database
    of_broker: Callable[[], tuple[Sample, ...]] = tuple


def codec_of(plan: AppPlan) -> Codec:
    """Make what turns an app's messages into bytes."""
    return Codec(plan.types, plan.wire_names, plan.codec)


def build(  # noqa: PLR0913 - each is a setting of the process
    plan: AppPlan,
    owner: int,
    database: str,
    broker: str,
    *,
    pooler: str = "",
    keeps_sent: bool = False,
    tracing: Tracing | None = None,
    meters: Meters | None = None,
    codec: Codec | None = None,
    has_queues: bool = False,
    part: str = "",
) -> Parts:
    """Make the parts of one process; connects to nothing.

    Args:
        plan: Of the app.
        owner: Names this process.
        database: URL of the state.
        broker: URL of the queues; empty: in the database.
        pooler: URL of a pooler in front of the database, to connect to instead of it.
        keeps_sent: Keep what was sent, where the queues are elsewhere and may be lost.
        tracing: Traces messages; None: nobody does.
        meters: Counts; None: nobody does.
        codec: For the app's messages; None: one of its own.
        has_queues: Whoever started this process has made the app's queues on the broker.
        part: What this process is of the app, for the server's list of sessions.
    """
    flush = None if tracing is None else tracing.flush
    opened = partial(
        Database, app=plan.name, part=part, max_connections=CONNECTIONS, before_use=flush
    )
    state = opened(pooler or database, is_pooled=bool(pooler))
    bell = Bell(carry_by_notify(state, owner))
    store = PostgresStore(state, owner=owner, joins=joins_store(database, broker))
    store.results_s, store.horizon_s = plan.results_s, plan.horizon_s
    store.keeps_sent = keeps_sent and not joins_store(database, broker)
    transport: Transport
    of_broker: Callable[[], tuple[Sample, ...]] = tuple
    if is_rabbit(broker):
        rabbit = rabbit_transport(
            plan.name,
            broker,
            sole_types=_sole_types(plan),
            sources=sources_of(plan),
            made=[*plan.queues(), INBOUND] if has_queues else (),
        )
        if flush is not None:
            rabbit.call_before_write(flush)
        of_broker = rabbit.numbers
        claims = PostgresTransport(state, owner=owner, bell=bell, joins_store=False)
        transport = LongWorkTransport(
            rabbit, claims, long=long_queues(plan), queues=plan.queues()
        )
    else:
        refuse_sources(sources_of(plan))
        joins = joins_store(database, broker)
        queues = state if joins else opened(broker)
        transport = PostgresTransport(queues, owner=owner, bell=bell, joins_store=joins)
    runtime = Runtime(
        plan=plan,
        codec=codec or codec_of(plan),
        store=store,
        transport=transport,
        bell=bell,
        clock=SystemClock(),
        owner=owner,
        deaths=None if transport.features.sees_holders else store,
        keeps_sent=store.keeps_sent,
        tracing=tracing,
        meters=meters,
    )
    return Parts(Services(runtime, intake_limit=_intake_limit()), state, of_broker)


def _sole_types(plan: AppPlan) -> dict[str, str]:
    """Name the message of each handler that takes one class only."""
    return {
        name: plan.wire_names[handler.takes[0]]
        for name, handler in plan.handlers.items()
        if len(handler.takes) == 1 and not handler.key
    }


def sources_of(plan: AppPlan) -> dict[str, str]:
    """Name the queue of another program for each handler that takes from one."""
    return {name: one.reads_from for name, one in plan.handlers.items() if one.reads_from}


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
