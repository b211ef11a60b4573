"""Cost of a message at growing queues, open sequences and inboxes: flat, or not.

`growth-deep` goes to a million queued messages and ten million rows of inbox; it takes too
long for a run of all, so it is asked for by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contest import OWN, Contender, Scenario
from benchmarks.figures import Bar

if TYPE_CHECKING:
    from collections.abc import Sequence

FLAT = 1.15


def _one(case: str, sizes: Sequence[int], quick_sizes: Sequence[int]) -> Contender:
    return Contender(
        name=f"rolekit, {case}",
        program=OWN,
        module="growth",
        case=case,
        count=sizes[-1],
        options={"sizes": list(sizes), "quick_sizes": list(quick_sizes)},
    )


def _scenario(
    name: str, budget_s: float, run_s: float, *grown: tuple[str, Sequence[int]]
) -> Scenario:
    return Scenario(
        name=name,
        title="Cost of a message as things grow: CPU of client and servers, largest/smallest",
        contenders=tuple(_one(case, sizes, (100, 300)) for case, sizes in grown),
        bars=tuple(
            Bar(name=f"growth, {case}", of=f"rolekit, {case}", metric="growth", at_most=FLAT)
            for case, _ in grown
        ),
        rounds=5,
        budget_s=budget_s,
        run_s=run_s,
    )


GROWTH = _scenario(
    "growth",
    140,
    90,
    ("depth", (1000, 10_000, 100_000)),
    ("sequences", (100, 10_000, 100_000)),
    ("inbox", (1000, 1_000_000)),
)
GROWTH_DEEP = _scenario(
    "growth-deep",
    3600,
    1200,
    ("depth", (1000, 10_000, 100_000, 1_000_000)),
    ("sequences", (100, 1000, 10_000, 100_000)),
    ("inbox", (1000, 1_000_000, 10_000_000)),
)
