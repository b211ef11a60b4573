"""What tracing costs: two stages with it off, on and nothing kept, 1 % kept, all kept."""

from __future__ import annotations

from benchmarks.contest import OWN, Contender, Scenario
from benchmarks.figures import CPU_US, Bar

OFF, UNSAMPLED, SOME, EVERY = "tracing off", "nothing kept", "1 % kept", "all kept"
COUNTED = "numbers counted"

TRACING = Scenario(
    name="tracing",
    title="Two stages in one process, by how much of them is traced",
    contenders=tuple(
        Contender(
            name=name, program=OWN, case="stages", count=30_000, quick=500, options=options
        )
        for name, options in {
            OFF: {},
            UNSAMPLED: {"traces": 0.0},
            SOME: {"traces": 0.01},
            EVERY: {"traces": 1.0},
            COUNTED: {"meters": True},
        }.items()
    ),
    # CPU a message: how fast two cores are that others use too says nothing about 2 %.
    bars=(
        Bar(name="tracing/unsampled", of=UNSAMPLED, metric=CPU_US, against=OFF, at_most=1.02),
        Bar(name="tracing/1 %", of=SOME, metric=CPU_US, against=OFF, at_most=1.05),
    ),
    rounds=5,
    budget_s=150,
)
