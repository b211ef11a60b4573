"""Consuming: a typed handler that does nothing, acks after it; from a full queue."""

from __future__ import annotations

from benchmarks.contest import OWN, C, Contender, Scenario
from benchmarks.figures import CPU_US, Bar

WINDOW = 500
"""Deliveries in hand: as many as rolekit's role has."""


def _peer(
    name: str, program: str, count: int, *, kind: str = "quorum", once: bool = False
) -> Contender:
    return Contender(
        name=name,
        program=program,
        case="consume",
        count=count,
        window=WINDOW,
        queue_type=kind,
        once=once,
    )


CONSUME = Scenario(
    name="consume",
    title="Consume from a full queue, no-op handler, ack after",
    contenders=(
        Contender(name="rolekit", program=OWN, case="consume", count=60_000, quick=1000),
        _peer("aio-pika", "raw_aio_pika", 7000),
        _peer("FastStream", "faststream_peer", 5000),
        _peer("Taskiq", "taskiq_peer", 4000),
        _peer("Celery", "celery_peer", 5000),
        _peer("Dramatiq", "dramatiq_peer", 6000, kind="classic", once=True),
        _peer("aiormq", "raw_aiormq", 10_000, once=True),
        _peer("C", C, 40_000, once=True),
    ),
    bars=(
        Bar(name="consume/aio-pika", of="rolekit", against="aio-pika", at_least=3.5),
        Bar(name="consume/FastStream", of="rolekit", against="FastStream", at_least=5),
        Bar(name="consume/Taskiq", of="rolekit", against="Taskiq", at_least=6),
        Bar(name="consume/Celery", of="rolekit", against="Celery", at_least=6),
        Bar(name="consume CPU", of="rolekit", metric=CPU_US, at_most=25, unit="us"),
    ),
    budget_s=115,
)
