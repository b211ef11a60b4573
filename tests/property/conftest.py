"""Laws are tried on many examples, without a time limit for each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

EXAMPLES = int(os.environ.get("ROLEKIT_EXAMPLES", "100"))
"""Of each law; other ones in each run."""
LIMIT_S = 120
"""Of one law: it computes all the time, and cores are shared."""

settings.register_profile(
    "laws",
    max_examples=EXAMPLES,
    deadline=None,  # cores are shared: one slow example says nothing
    print_blob=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # explaining is slow
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("laws")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give laws more time than other tests."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S))
