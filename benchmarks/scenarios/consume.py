"""Consuming: a typed handler that does nothing, acks after it; from a full queue."""

from __future__ import annotations

from benchmarks.contest import OWN, C, Contender, Scenario
from benchmarks.figures import CPU_US, Bar

CONSUME = Scenario(
    name="consume",
    title="Consume from a full queue, no-op handler, ack after",
    contenders=(
        Contender(name="rolekit", program=OWN, case="consume", count=60_000, quick=1000),
        Contender(name="aio-pika", program="raw_aio_pika", case="consume", count=8000),
        Contender(name="FastStream", program="faststream_peer", case="consume", count=6000),
        Contender(name="Taskiq", program="taskiq_peer", case="consume", count=5000),
        Contender(name="Celery", program="celery_peer", case="consume", count=5000),
        Contender(
            name="Dramatiq",
            program="dramatiq_peer",
            case="consume",
            count=6000,
            queue_type="classic",
        ),
        Contender(name="aiormq", program="raw_aiormq", case="consume", count=10_000),
        Contender(name="C", program=C, case="consume", count=40_000, window=1000),
    ),
    bars=(
        Bar(name="consume/aio-pika", of="rolekit", against="aio-pika", at_least=3.5),
        Bar(name="consume/FastStream", of="rolekit", against="FastStream", at_least=5),
        Bar(name="consume/Taskiq", of="rolekit", against="Taskiq", at_least=6),
        Bar(name="consume/Celery", of="rolekit", against="Celery", at_least=6),
        Bar(name="consume CPU", of="rolekit", metric=CPU_US, at_most=25, unit="us"),
    ),
    budget_s=130,
)
