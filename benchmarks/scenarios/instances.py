"""Live consumers from `rolekit scale`: how soon, how large, and what they hold.

On RabbitMQ all 1,000 are asked for, which is what the bars are about, and each has to handle
a message; on the Postgres transport each instance holds a connection
to wait on, so only as many are started as its server bears (`own/fleet.py`).

Workers of peers are shown beside them, with no bar: what one more process costs there, from
its start until it consumes, and in memory (`peers/workers.py`).
"""

from __future__ import annotations

from benchmarks.contest import OWN, Contender, Scenario
from benchmarks.figures import Bar

NAME = "rolekit, instances"


def _workers(name: str, case: str) -> Contender:
    return Contender(name=name, program="workers", case=case, count=10, quick=2, once=True)


INSTANCES = Scenario(
    name="instances",
    title="1,000 live consumers from `rolekit scale`",
    contenders=(
        Contender(
            name=NAME, program=OWN, module="fleet", case="instances", count=1000, quick=10
        ),
        _workers("FastStream, workers", "faststream"),
        _workers("Taskiq, workers", "taskiq"),
        _workers("Celery, workers", "celery"),
    ),
    bars=(
        Bar(
            name="instances, a message each", of=NAME, metric="handled_s", at_most=15, unit="s"
        ),
        Bar(name="instances gone", of=NAME, metric="down_s", at_most=15, unit="s"),
        Bar(
            name="instances, supervisor's memory",
            of=NAME,
            metric="supervisor_mib",
            at_most=100,
            unit="MiB",
        ),
        Bar(
            name="instances, supervisor's CPU while idle",
            of=NAME,
            metric="supervisor_cpu_percent",
            at_most=5,
            unit="%",
        ),
        Bar(name="instances USS", of=NAME, metric="uss_mib", at_most=8, unit="MiB"),
        Bar(
            name="instances, Postgres connections",
            of=NAME,
            metric="connections",
            at_most=0,
            unit="held",
        ),
    ),
    rounds=2,
    budget_s=180,  # two rounds of 40 s, and the peers once
)
