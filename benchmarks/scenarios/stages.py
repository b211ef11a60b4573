"""Two stages, A to B in one process: what came is passed on, and taken again."""

from __future__ import annotations

from benchmarks.contest import OWN, Contender, Scenario
from benchmarks.figures import Bar

STAGES = Scenario(
    name="stages",
    title="Two stages in one process, at least once, from a full queue",
    contenders=(
        Contender(name="rolekit", program=OWN, case="stages", count=30_000, quick=500),
        Contender(name="aio-pika", program="raw_aio_pika", case="stages", count=2500),
        Contender(name="FastStream", program="faststream_peer", case="stages", count=2000),
        Contender(name="Taskiq", program="taskiq_peer", case="stages", count=2000),
        Contender(name="Celery", program="celery_peer", case="stages", count=500, quick=100),
    ),
    bars=(
        Bar(name="stages/aio-pika", of="rolekit", against="aio-pika", at_least=5),
        Bar(name="stages/FastStream", of="rolekit", against="FastStream", at_least=8),
        Bar(name="stages/Taskiq", of="rolekit", against="Taskiq", at_least=8),
        Bar(name="stages/Celery", of="rolekit", against="Celery", at_least=16),
    ),
    budget_s=75,
)
