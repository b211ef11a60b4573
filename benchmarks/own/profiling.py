"""A CPU profile of what a meter measures, where BENCH_PROFILE names a file for it."""

from __future__ import annotations

import cProfile
import io
import os
import pstats
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.meter import Meter

PROFILE = "BENCH_PROFILE"
LINES = 60


def profile(meter: Meter) -> None:
    """Profile from where the meter begins to where it ends; write the text.

    Sorted by own time, and then with all that was called.
    """
    target = os.environ.get(PROFILE)
    if not target:
        return
    profiler = cProfile.Profile()

    def write() -> None:
        profiler.disable()
        text = io.StringIO()
        found = pstats.Stats(profiler, stream=text)
        found.sort_stats("tottime").print_stats(LINES)
        found.sort_stats("cumulative").print_stats(LINES)
        Path(target).write_text(text.getvalue())

    meter.on_begin, meter.on_end = profiler.enable, write
