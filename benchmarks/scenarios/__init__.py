"""One file a bar: who competes, over what, and what must be reached."""

from __future__ import annotations

from benchmarks.scenarios.consume import CONSUME
from benchmarks.scenarios.effects import EFFECTS, EFFECTS_POSTGRES
from benchmarks.scenarios.effects_sql import EFFECTS_SQL
from benchmarks.scenarios.growth import GROWTH, GROWTH_DEEP
from benchmarks.scenarios.instances import INSTANCES
from benchmarks.scenarios.keyed import KEYED
from benchmarks.scenarios.latency import LATENCY
from benchmarks.scenarios.publish import PUBLISH
from benchmarks.scenarios.scale_out import SCALE_OUT
from benchmarks.scenarios.split_gather import SPLIT_GATHER, SPLIT_GATHER_LONG
from benchmarks.scenarios.stages import STAGES
from benchmarks.scenarios.tracing import TRACING

ALL = (
    PUBLISH,
    CONSUME,
    STAGES,
    EFFECTS,
    EFFECTS_SQL,
    EFFECTS_POSTGRES,
    SPLIT_GATHER,
    LATENCY,
    INSTANCES,
    SCALE_OUT,
    GROWTH,
)
LONG = (GROWTH_DEEP, KEYED, SPLIT_GATHER_LONG, TRACING)
"""Only when asked for by name."""
