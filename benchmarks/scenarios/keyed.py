"""Recorded steps in the order of their keys, beside the same steps in any order."""

from __future__ import annotations

from benchmarks.contest import OWN, Contender, Scenario

KEYED = Scenario(
    name="keyed",
    title="Exactly once in the order of 1,000 keys, beside the same in any order",
    contenders=(
        Contender(name="rolekit", program=OWN, case="effects", count=15_000, quick=500),
        Contender(name="rolekit, keyed", program=OWN, case="keyed", count=15_000, quick=500),
        Contender(
            name="rolekit on Postgres",
            program=OWN,
            case="effects",
            count=10_000,
            quick=500,
            transport="postgres",
        ),
        Contender(
            name="rolekit on Postgres, keyed",
            program=OWN,
            case="keyed",
            count=10_000,
            quick=500,
            transport="postgres",
        ),
    ),
    bars=(),
    budget_s=60,
)
