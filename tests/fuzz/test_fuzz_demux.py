"""A little of the fuzzing that `make fuzz` does at length."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz_demux


@pytest.mark.timeout(60)
def test_streams_with_faults_never_give_a_wrong_delivery() -> None:
    counts, fault = fuzz_demux.run(20_000, seed=7)

    assert fault is None
    assert counts["deliveries as they were sent"] > 1_000
    assert counts["deliveries with changed bytes of their own"] > 30
    assert 0 < counts["streams with a frame error"] < counts["streams"]
