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

from __future__ import annotations

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
