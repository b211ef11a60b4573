"""A CPU profile of one run, where BENCH_PROFILE names a file for it."""

from __future__ import annotations

import cProfile
import io
import os
import pstats
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROFILE = "BENCH_PROFILE"
LINES = 60


@contextmanager
def profiled() -> Iterator[None]:
    """Profile the block and write the text, by own time and then with all it called."""
    target = os.environ.get(PROFILE)
    if not target:
        yield
        return
    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        text = io.StringIO()
        found = pstats.Stats(profile, stream=text)
        found.sort_stats("tottime").print_stats(LINES)
        found.sort_stats("cumulative").print_stats(LINES)
        Path(target).write_text(text.getvalue())
