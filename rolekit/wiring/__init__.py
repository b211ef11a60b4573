"""From settings to concrete parts: the only package that names Postgres.

instance_main   a forked instance, on its line to the supervisor
run_role        one role in the foreground, its own supervisor in small
open_host       what a supervisor needs from the databases
open_client     the way in for scripts
dead_letters    for the command line
sent_messages   likewise
holes           likewise: sequences in flight, and what holds them up
traces_of       likewise: what happened to a message
read_timers     likewise: when handlers are called by time
open_console    likewise, for a dashboard: all of these over one pool
open_traces     all of them, for whoever reads many
server_versions for load tests, which say what took part
cut_sessions    likewise, which break things
open_topology   likewise: which queues there are, and which there should be
warm_up         for the process that forks instances
"""

# Loaded when it is first asked for: a supervisor took 0.9 s of CPU for all of it, and takes
# 0.5 for what it needs (November 2026).

from typing import TYPE_CHECKING

from rolekit.late import loader

if TYPE_CHECKING:
    from rolekit.wiring.console import open_console
    from rolekit.wiring.foreground import open_client, run_role
    from rolekit.wiring.hosting import (
        check_pooler,
        migrate,
        open_host,
        wait_for,
        wait_for_broker,
    )
    from rolekit.wiring.instance import instance_main
    from rolekit.wiring.operator import acts, dead_letters, holes, open_traces, traces_of
    from rolekit.wiring.resending import sent_messages
    from rolekit.wiring.servers import cut_sessions, server_versions
    from rolekit.wiring.timers import read_timers
    from rolekit.wiring.topology import open_topology
    from rolekit.wiring.warming import warm_up

__all__ = [
    "acts",
    "check_pooler",
    "cut_sessions",
    "dead_letters",
    "holes",
    "instance_main",
    "migrate",
    "open_client",
    "open_console",
    "open_host",
    "open_topology",
    "open_traces",
    "read_timers",
    "run_role",
    "sent_messages",
    "server_versions",
    "traces_of",
    "wait_for",
    "wait_for_broker",
    "warm_up",
]

_MODULES = {
    "rolekit.wiring.console": ("open_console",),
    "rolekit.wiring.foreground": ("open_client", "run_role"),
    "rolekit.wiring.hosting": (
        "check_pooler",
        "migrate",
        "open_host",
        "wait_for",
        "wait_for_broker",
    ),
    "rolekit.wiring.instance": ("instance_main",),
    "rolekit.wiring.operator": ("acts", "dead_letters", "holes", "open_traces", "traces_of"),
    "rolekit.wiring.resending": ("sent_messages",),
    "rolekit.wiring.servers": ("cut_sessions", "server_versions"),
    "rolekit.wiring.timers": ("read_timers",),
    "rolekit.wiring.topology": ("open_topology",),
    "rolekit.wiring.warming": ("warm_up",),
}


if not TYPE_CHECKING:  # or a type checker would believe any name
    __getattr__, __dir__ = loader(__name__, _MODULES)
