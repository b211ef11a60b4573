"""The laws of a circuit: failures open it, one call probes, and a success closes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rolekit.model.circuit import SLICES, Breaker
from rolekit.model.policy import Circuit

pytestmark = pytest.mark.timeout(60)

POLICIES = st.builds(
    Circuit,
    failures=st.sampled_from([0.1, 0.5, 0.8, 1.0]),
    over_s=st.sampled_from([0.5, 10, 60]),
    at_least=st.integers(1, 30),
    pause_s=st.sampled_from([0.1, 5, 30]),
)


@given(POLICIES, st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=80))
def test_it_opens_when_enough_of_enough_calls_failed_and_not_before(
    policy: Circuit, calls: list[tuple[bool, int]]
) -> None:
    breaker = Breaker(policy)
    slice_ms = max(1, round(policy.over_s * 1000 / SLICES))
    now_ms = 0
    counted: list[tuple[int, bool]] = []

    for failed, step_ms in calls:
        now_ms += step_ms
        assert breaker.begin(now_ms)
        breaker.ended(now_ms, failed=failed, is_probe=False)
        counted.append((now_ms // slice_ms, failed))
        recent = [one for at, one in counted if at > now_ms // slice_ms - SLICES]
        opens = (
            failed
            and len(recent) >= policy.at_least
            and sum(recent) >= len(recent) * policy.failures
        )
        assert (breaker.state == "open") == opens
        if opens:
            return


class Calls(RuleBasedStateMachine):
    """Calls that overlap, end in any order, or never end."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = Circuit(failures=0.5, over_s=10, at_least=4, pause_s=5)
        self.breaker = Breaker(self.policy)
        self.now_ms = 0
        self.running: list[bool] = []

    @property
    def probes(self) -> int:
        return sum(self.running)

    @rule(step_ms=st.integers(0, 4000))
    def wait(self, step_ms: int) -> None:
        self.now_ms += step_ms

    @rule()
    def begin(self) -> None:
        before, probes = self.breaker.state, self.probes
        if self.breaker.begin(self.now_ms):
            assert before != "open" or self.now_ms >= self.breaker.open_until_ms
            is_probe = self.breaker.is_probing
            assert not (is_probe and probes), "two calls probe at once"
            self.running.append(is_probe)
        elif before == "open":
            assert self.now_ms < self.breaker.open_until_ms
        else:
            assert before == "probing"
            assert probes == 1

    @precondition(lambda self: self.running)
    @rule(failed=st.booleans(), at=st.integers(0, 100))
    def end(self, at: int, *, failed: bool) -> None:
        is_probe = self.running.pop(at % len(self.running))
        before = self.breaker.state
        self.breaker.ended(self.now_ms, failed=failed, is_probe=is_probe)
        after = self.breaker.state
        if is_probe:
            assert (before, after) == ("probing", "open" if failed else "closed")
        elif before != "closed":
            assert after == before, "what was begun before the circuit opened decides nothing"
        else:
            assert after == "closed" or failed

    @precondition(lambda self: self.probes)
    @rule()
    def lose_the_probe(self) -> None:
        self.running.remove(True)
        self.breaker.gave_up()

    @invariant()
    def a_probe_has_no_other_beside_it(self) -> None:
        assert self.probes <= 1
        assert self.probes == 0 or self.breaker.state == "probing"

    @invariant()
    def an_open_one_tells_when_it_may_be_probed(self) -> None:
        if self.breaker.state == "open":
            assert self.breaker.open_until_ms <= self.now_ms + self.policy.pause_s * 1000


TestCalls = Calls.TestCase
