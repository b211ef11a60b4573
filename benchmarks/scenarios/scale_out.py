"""More processes: 1 to 2 on handlers that compute, 1 to 32 on handlers that wait 10 ms."""

from __future__ import annotations

from benchmarks.contest import OWN, Contender, Scenario
from benchmarks.figures import Bar


def _one(case: str, instances: int, count: int, quick: int) -> Contender:
    return Contender(
        name=f"rolekit, {instances} {case}",
        program=OWN,
        module="fleet",
        case=case,
        count=count,
        quick=quick,
        options={"instances": instances},
    )


SCALE_OUT = Scenario(
    name="scale-out",
    title="Instances under `rolekit up`: 20 ms of CPU a message; 10 ms of waiting a message",
    contenders=(
        _one("busy", 1, 60, 10),
        _one("busy", 2, 120, 20),
        _one("waiting", 1, 150, 20),
        _one("waiting", 32, 4500, 600),
    ),
    bars=(
        Bar(
            name="scale-out CPU, 1 to 2",
            of="rolekit, 2 busy",
            against="rolekit, 1 busy",
            at_least=1.8,
        ),
        Bar(
            name="scale-out I/O, 1 to 32",
            of="rolekit, 32 waiting",
            against="rolekit, 1 waiting",
            at_least=28,
        ),
    ),
    budget_s=95,
)
