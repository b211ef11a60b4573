"""Recorded steps with a statement of SQL each; and with statements that fail, and twins."""

from __future__ import annotations

from benchmarks.contest import OWN, Contender, Scenario
from benchmarks.figures import Bar

CULPRITS = {"culprits": 0.005, "twins": 0.01}

EFFECTS_SQL = Scenario(
    name="effects-sql",
    title="Exactly once with one `ctx.write` a message; 0.5 % culprits, 1 % twins",
    contenders=(
        Contender(name="rolekit", program=OWN, case="sql", count=10_000, quick=500),
        Contender(
            name="rolekit, culprits and twins",
            program=OWN,
            case="sql",
            count=10_000,
            quick=500,
            options=CULPRITS,
        ),
        Contender(name="naive", program="naive_effects", case="sql", count=2000),
    ),
    bars=(
        Bar(name="effects, plain SQL/naive", of="rolekit", against="naive", at_least=4),
        Bar(
            name="effects, culprits/without",
            of="rolekit, culprits and twins",
            against="rolekit",
            at_least=0.5,
        ),
    ),
    budget_s=55,
)
