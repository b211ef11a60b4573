"""How long a delivery of RabbitMQ may be held: what may take longer runs from a claim."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from rolekit.model.plan import AppPlan

CONSUMER_TIMEOUT = "ROLEKIT_CONSUMER_TIMEOUT_S"
CONSUMER_TIMEOUT_S = 1800.0
"""`consumer_timeout` of a broker that nobody configured, RabbitMQ 3.10 to 4.x."""
_SHARE = 1 / 3
"""Of it that a call may take of a delivery: it is held before its call and after it, too, and
the broker looks once a minute. Of the default that is ten minutes. Source: DESIGN 4.9."""


def long_queues(plan: AppPlan) -> frozenset[str]:
    """Name the queues of handlers whose call may take longer than a delivery should be held.

    Keyed handlers of a role share the queues of its partitions: if one of them is long, all
    are.

    Raises:
        ConfigError: The environment does not say a number of seconds.
    """
    most_s = consumer_timeout_s() * _SHARE
    long = [one for one in plan.handlers.values() if one.timeout_s > most_s]
    own = {one.name for one in long if not one.key}
    shared = {q for one in long if one.key for q in plan.partition_queues(one.role)}
    return frozenset(own | shared)


def is_rabbit(broker: str) -> bool:
    """Whether a broker's URL names RabbitMQ."""
    return broker.startswith(("amqp://", "amqps://"))


def consumer_timeout_s() -> float:
    """Return for how long the broker lets a delivery be held, as the environment says.

    Raises:
        ConfigError: It does not say a number of seconds.
    """
    text = os.environ.get(CONSUMER_TIMEOUT, "")
    if not text:
        return CONSUMER_TIMEOUT_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(
            f"{CONSUMER_TIMEOUT} is {text!r}; seconds, more than 0, are expected.",
            fix="Say what consumer_timeout is in rabbitmq.conf, there in ms; leave it out for "
            f"{CONSUMER_TIMEOUT_S:g}.",
        )
    return seconds
