"""Recorded steps: inbox, the state of 1 of 1,000 keys, one output; exactly once."""

from __future__ import annotations

from benchmarks.contest import OWN, Contender, Scenario
from benchmarks.figures import Bar

OURS = Contender(name="rolekit", program=OWN, case="effects", count=15_000, quick=500)

EFFECTS = Scenario(
    name="effects",
    title="Exactly once on RabbitMQ: inbox, state of 1 of 1,000 keys, one output",
    contenders=(
        OURS,
        Contender(name="rolekit direct", program=OWN, case="stages", count=20_000, quick=500),
        Contender(name="naive", program="naive_effects", case="effects", count=2000),
        Contender(
            name="FastStream, at least once",
            program="faststream_peer",
            case="stages",
            count=2000,
        ),
    ),
    bars=(
        Bar(name="effects/naive", of="rolekit", against="naive", at_least=8),
        Bar(
            name="effects/FastStream at least once",
            of="rolekit",
            against="FastStream, at least once",
            at_least=5,
        ),
    ),
    budget_s=60,
)

EFFECTS_POSTGRES = Scenario(
    name="effects-postgres",
    title="The same on the embedded default: Postgres as broker and store",
    contenders=(
        OURS,
        Contender(
            name="rolekit on Postgres",
            program=OWN,
            case="effects",
            count=10_000,
            quick=500,
            transport="postgres",
        ),
    ),
    bars=(
        Bar(
            name="effects on Postgres/RabbitMQ",
            of="rolekit on Postgres",
            against="rolekit",
            at_least=1,
        ),
    ),
    budget_s=45,
)
