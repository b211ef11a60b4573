"""What tracing costs: two stages with it off, on and nothing kept, 1 % kept, all kept.

Rates are of processes of their own, as elsewhere. They differ by 10 % and more from run to
run, which says nothing about 2 %, so the bars are about CPU: see `own/tracing_share.py`.
Numbers are counted, as in every instance.
"""

from __future__ import annotations

from benchmarks.contest import OWN, Contender, Scenario
from benchmarks.figures import Bar

OFF, UNSAMPLED, SOME, EVERY = "tracing off", "nothing kept", "1 % kept", "all kept"
UNCOUNTED = "tracing off, numbers not counted"
SHARES = "all ways in turns"

TRACING = Scenario(
    name="tracing",
    title="Two stages in one process, by how much of them is traced",
    contenders=(
        Contender(
            name=SHARES,
            program=OWN,
            module="tracing_share",
            case="shares",
            count=20_000,
            quick=500,
            options={"meters": True, "rounds": 400},
        ),
        *(
            Contender(
                name=name,
                program=OWN,
                case="stages",
                count=30_000,
                quick=500,
                options=options,
                once=True,
            )
            for name, options in {
                OFF: {"meters": True},
                UNSAMPLED: {"meters": True, "traces": 0.0},
                SOME: {"meters": True, "traces": 0.01},
                EVERY: {"meters": True, "traces": 1.0},
                UNCOUNTED: {},
            }.items()
        ),
    ),
    bars=(
        Bar(
            name="tracing/unsampled, a stage",
            of=SHARES,
            metric="unsampled_stage_us",
            at_most=2,
            unit="us",
        ),
        Bar(name="tracing/unsampled", of=SHARES, metric="unsampled", at_most=1.02),
        Bar(name="tracing/1 %", of=SHARES, metric="some", at_most=1.05),
    ),
    rounds=1,
    budget_s=150,
    run_s=300,
)
