"""A circuit: stop calling what keeps failing, and ask now and then whether it works again.

    closed --(share of failures)--> open --(pause)--> probing --(success)--> closed
                                      ^                  |
                                      +----(failure)-----+

Calls are counted in slices of the time they are counted over, so that counting costs the same
however many there are. What was begun before the circuit opened, and ends behind that, says
nothing new: only the probe does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rolekit.model.policy import Circuit

SLICES = 10

State = Literal["closed", "open", "probing"]


class Breaker:
    """One circuit.

    Args:
        policy: When it opens, and for how long.

    Attributes:
        state: See above.
        open_until_ms: When a call may probe; of use while it is open.
    """

    def __init__(self, policy: Circuit) -> None:
        self._policy = policy
        self._slice_ms = max(1, round(policy.over_s * 1000 / SLICES))
        self._slices: dict[int, list[int]] = {}
        self._is_asked = False
        self.state: State = "closed"
        self.open_until_ms = 0

    def may_begin(self, now_ms: int) -> bool:
        """Say whether a call that was asked for now could begin; asks for none."""
        if self.state == "open":
            return now_ms >= self.open_until_ms
        return self.state == "closed" or not self._is_asked

    def begin(self, now_ms: int) -> bool:
        """Ask for a call; False: not now. After the pause, one call probes."""
        if self.state == "closed":
            return True
        if self.state == "open" and now_ms >= self.open_until_ms:
            self.state, self._is_asked = "probing", False
        if self.state == "open" or self._is_asked:
            return False
        self._is_asked = True
        return True

    @property
    def is_probing(self) -> bool:
        """Whether a call that was begun now, and no other, decides what comes next."""
        return self.state == "probing"

    def ended(self, now_ms: int, *, failed: bool, is_probe: bool) -> None:
        """Note how a call ended."""
        if self.state == "closed":
            self._count(now_ms, failed=failed)
        elif self.state == "probing" and is_probe:
            if failed:
                self._open(now_ms)
            else:
                self.state = "closed"
                self._slices.clear()

    def gave_up(self) -> None:
        """Note that the probe ended without an outcome: another may probe."""
        if self.state == "probing":
            self._is_asked = False

    def counts(self, now_ms: int) -> tuple[int, int]:
        """Return failures and calls of the time that counts."""
        oldest = now_ms // self._slice_ms - SLICES
        self._slices = {at: both for at, both in self._slices.items() if at > oldest}
        both = self._slices.values()
        return sum(failed for failed, _ in both), sum(calls for _, calls in both)

    def _count(self, now_ms: int, *, failed: bool) -> None:
        held = self._slices.setdefault(now_ms // self._slice_ms, [0, 0])
        held[0] += failed
        held[1] += 1
        if not failed:
            return  # a success opens nothing
        failures, calls = self.counts(now_ms)
        if calls >= self._policy.at_least and failures >= calls * self._policy.failures:
            self._open(now_ms)

    def _open(self, now_ms: int) -> None:
        self.state = "open"
        self.open_until_ms = now_ms + round(self._policy.pause_s * 1000)
        self._slices.clear()
