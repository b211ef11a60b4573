"""Where rolekit's demultiplexer goes into aiormq, and whether this release has the place.

aiormq lets whoever connects open the socket: `Connection(url, transport_factory=...)`, whose
`create(url, **kwargs)` returns a reader and a writer. That is all that is used of its inside.
"""

from __future__ import annotations

import inspect
import re
from functools import cache
from importlib.metadata import version

import aiormq

from rolekit.errors import ConfigError

FOUND = version("aiormq")
OLDEST = (7, 2, 4)
"""The release that first had it, and which rolekit was built and measured with."""


@cache
def check_seam() -> None:
    """Look before anything is connected; once is enough, until it finds fault.

    Raises:
        ConfigError: The place is not there, or another one.
    """
    why = _difference()
    if why:
        raise other_seam(why)


def other_seam(why: str) -> ConfigError:
    """Say that rolekit cannot go in, and how to do without."""
    return ConfigError(
        f"rolekit's demultiplexer does not fit into aiormq {FOUND}: {why}.",
        fix="Set ROLEKIT_RABBITMQ_PLAIN=1, which works without it and is slower, or install "
        "aiormq 7.2.4.",
    )


def _difference() -> str:
    numbers = tuple(int(each) for each in re.findall(r"\d+", FOUND)[:3])
    if numbers < OLDEST:
        return f"{'.'.join(map(str, OLDEST))} or a later release is expected"
    if "transport_factory" not in inspect.signature(aiormq.Connection).parameters:
        return "its Connection takes no transport_factory"
    factory: object = getattr(aiormq.connection, "TransportFactory", None)
    create: object = getattr(factory, "create", None)
    if not inspect.iscoroutinefunction(create):
        return "its TransportFactory has no create(url, **kwargs)"
    _, *taken = inspect.signature(create).parameters.values()
    kinds = [each.kind for each in taken]
    if kinds != [inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_KEYWORD]:
        return "its TransportFactory has another create than create(url, **kwargs)"
    return ""
