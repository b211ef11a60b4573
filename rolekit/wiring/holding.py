"""How long a delivery may be held: RabbitMQ takes back what is not acked in time."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolekit.config import Config

CONSUMER_TIMEOUT = "ROLEKIT_CONSUMER_TIMEOUT_S"
CONSUMER_TIMEOUT_S = 1800.0
"""`consumer_timeout` of a broker that nobody configured, RabbitMQ 3.10 to 4.x."""
_SHARE = 5 / 6
"""Of it that a call may take: a delivery is held before its call and after it, too, and the
broker looks once a minute."""


def refuse_long(config: Config, timeouts: Mapping[str, float]) -> None:
    """Refuse handlers whose call may outlast the broker's patience with a delivery.

    The broker would close the channel under it, and the message would come again, and run
    a second time, while the first call goes on.

    Args:
        config: Says which broker, and what handlers' settings say instead of the code.
        timeouts: Seconds that a call may take as the code has it, by handler.

    Raises:
        ConfigError: One may take too long; or the setting is no number of seconds.
    """
    if not is_rabbit(config.broker):
        return
    limit_s = _consumer_timeout_s()
    most_s = limit_s * _SHARE
    for name, timeout_s in {**timeouts, **_said(config)}.items():
        if timeout_s > most_s:
            raise ConfigError(
                f"{name} may take {timeout_s:g} s (timeout_s). RabbitMQ takes a message back "
                f"that is not acked within {limit_s:g} s (consumer_timeout), and it would run "
                f"a second time beside the first; a call may take {most_s:g} s there at most.",
                fix="Give it a smaller timeout_s; or split the work into several messages; or "
                "leave ROLEKIT_BROKER out, since Postgres waits for as long as it takes; or "
                f"raise consumer_timeout on the broker and say so: {CONSUMER_TIMEOUT}=7200.",
            )


def _said(config: Config) -> dict[str, float]:
    """Read what settings say of handlers' time; what is no number is refused elsewhere."""
    found: dict[str, float] = {}
    for name, options in config.handlers.items():
        with suppress(KeyError, ValueError):
            found[name] = float(options["timeout_s"])
    return found


def is_rabbit(broker: str) -> bool:
    """Whether a broker's URL names RabbitMQ."""
    return broker.startswith(("amqp://", "amqps://"))


def _consumer_timeout_s() -> float:
    """Return for how long the broker lets a delivery be held, as the environment says."""
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
