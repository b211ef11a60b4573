"""One job of 1,000 parts: split, handled, and taken in order."""

from __future__ import annotations

from benchmarks.contest import OWN, Contender, Scenario
from benchmarks.figures import Bar

PARTS = 1000

SPLIT_GATHER = Scenario(
    name="split-gather",
    title="Split 1,000 parts, handle each, gather in order; rolekit durable and exactly once",
    contenders=(
        Contender(name="rolekit", program=OWN, case="split", count=PARTS, quick=100),
        Contender(
            name="Celery chord on Redis",
            program="celery_peer",
            case="split",
            count=PARTS,
            quick=50,
            queue_type="classic",
            needs=("redis",),
        ),
        Contender(
            name="aio-pika in memory",
            program="raw_aio_pika",
            case="split",
            count=PARTS,
            quick=100,
        ),
    ),
    bars=(
        Bar(
            name="split/gather/Celery chord",
            of="rolekit",
            against="Celery chord on Redis",
            at_least=6,
        ),
        Bar(
            name="split/gather/aio-pika in memory",
            of="rolekit",
            against="aio-pika in memory",
            at_least=2,
        ),
    ),
    budget_s=45,
)
