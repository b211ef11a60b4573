"""Tracing in one process, as the settings want it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from rolekit.config import level, share
from rolekit.database import schema_of
from rolekit.flow.tracing import Tracing
from rolekit.model.conventions import server_of
from rolekit.observe.tracing import Sampling, Tracer
from rolekit.wiring.broker import joins_store
from rolekit.wiring.holding import is_rabbit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rolekit.config import Config
    from rolekit.model.span import Span


def tracing_of(
    config: Config,
    values: Mapping[str, str],
    ship: Callable[[Span], None],
    *,
    app: str,
    role: str,
    instance: str,
) -> Tracing | None:
    """Make what traces messages in this process; None: it is off.

    Args:
        config: Settings; `broker` and `database` as this process has them.
        values: Of the role, whose `traces` goes before that of all.
        ship: Takes spans.
        app: Its name.
        role: Of this process.
        instance: Its name.

    Raises:
        ConfigError: The role's share is none.
    """
    ratio = ratio_of(config, values)
    if ratio is None:
        return None
    sampling = Sampling(ratio=ratio, slow_s=config.slow_s)
    is_broker = is_rabbit(config.broker)
    return Tracing(
        Tracer(ship, sampling, role=role, instance=instance),
        system="rabbitmq" if is_broker else "postgresql",
        prefix=f"{app}." if is_broker else "",
        leaves_later=not joins_store(config.database, config.broker),
        broker=server_of(config.broker or config.database),
        commits={
            "db.namespace": _namespace(config.database, app),
            **dict(server_of(config.database)),
        },
    )


def _namespace(database: str, app: str) -> str:
    """Name the schema of an app as OpenTelemetry's conventions for PostgreSQL do."""
    name = unquote(urlsplit(database).path.strip("/"))
    return "|".join(filter(None, (name, schema_of(app))))


def ratio_of(config: Config, values: Mapping[str, str]) -> float | None:
    """Say which share of traces a role keeps; None: it traces nothing.

    Raises:
        ConfigError: The role's share is none.
    """
    return share("traces of a role", values["traces"]) if "traces" in values else config.traces


def level_of(config: Config, values: Mapping[str, str]) -> str:
    """Say from which level on a role writes log lines.

    Raises:
        ConfigError: The role's level is none.
    """
    return level("log of a role", values["log"]) if "log" in values else config.log
