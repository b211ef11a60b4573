"""One job of many parts: split, handled, and taken in order.

`split-gather-long` has 100,000 parts; it takes too long for a run of all, so it is asked for
by name.
"""

from __future__ import annotations

from benchmarks.contest import OWN, Contender, Scenario
from benchmarks.figures import Bar


def _scenario(name: str, parts: int, rounds: int, budget_s: float, run_s: float) -> Scenario:
    return Scenario(
        name=name,
        title=f"{parts:,} parts: split, handle, gather in order; rolekit durable, exactly once",
        contenders=(
            Contender(name="rolekit", program=OWN, case="split", count=parts, quick=100),
            Contender(
                name="Celery chord on Redis",
                program="celery_peer",
                case="split",
                count=parts,
                quick=50,
                queue_type="classic",
                needs=("redis",),
            ),
            Contender(
                name="aio-pika in memory",
                program="raw_aio_pika",
                case="split",
                count=parts,
                quick=100,
            ),
        ),
        bars=(
            Bar(
                name=f"{name.replace('-', '/', 1)}/Celery chord",
                of="rolekit",
                against="Celery chord on Redis",
                at_least=6,
            ),
            Bar(
                name=f"{name.replace('-', '/', 1)}/aio-pika in memory",
                of="rolekit",
                against="aio-pika in memory",
                at_least=2,
            ),
        ),
        rounds=rounds,
        budget_s=budget_s,
        run_s=run_s,
    )


SPLIT_GATHER = _scenario("split-gather", 1000, rounds=5, budget_s=45, run_s=90)
SPLIT_GATHER_LONG = _scenario("split-gather-long", 100_000, rounds=1, budget_s=1800, run_s=1200)
