"""When a role is crash-looping: too many deaths of its instances, with no life between them.

A place that keeps dying has a back-off and a budget of its own (`restart.py`). This is the
budget of a whole role: with fifty places a build that cannot live would otherwise be started
five hundred times before each of them has seen it.

Only early deaths count, of instances that were not ready for `RestartPolicy.early_s`, and
only as long as none at that place has lived longer since. So somebody who kills instances,
each of them once or many of them now and then, spends nothing that matters; a build that
dies right after its start spends everything. A place counts for no more than it may die by
itself, so that one place alone never makes its role crash-loop.

Erlang/OTP counts restarts of a supervisor's children in a time, systemd starts of a unit;
both end what goes beyond. Here it is tried on, few at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from rolekit.model.restart import RestartPolicy


@dataclass(slots=True)
class _Place:
    early_deaths: int = 0  # in a row
    was_ready: bool = False


class Intensity:
    """The early deaths of a role's places, and what follows from them.

    Time comes in as an argument: monotonic seconds that never go backwards.

    Args:
        policy: The numbers.

    Attributes:
        is_crash_looping: More early deaths in a row than the budget, `policy.restarts` and
            one for each place that was ever ready; and more places fail than do not. Until a
            failing place has an instance that lives longer, or no more places fail than not.
    """

    def __init__(self, policy: RestartPolicy) -> None:
        self.is_crash_looping = False
        self._policy = policy
        self._places: dict[Hashable, _Place] = {}
        self._last_turn_s = float("-inf")

    @property
    def failing(self) -> int:
        """Places where no instance has lived since the last early death."""
        return sum(one.early_deaths > 0 for one in self._places.values())

    @property
    def early_deaths(self) -> int:
        """Early deaths in a row, all places together."""
        most = self._policy.restarts
        return sum(min(one.early_deaths, most) for one in self._places.values())

    def fails(self, place: Hashable) -> bool:
        """Say whether no instance has lived at a place since its last early death."""
        return place in self._places and self._places[place].early_deaths > 0

    def was_ready(self, place: Hashable) -> None:
        """Note that an instance is ready."""
        self._places.setdefault(place, _Place()).was_ready = True

    def has_lived(self, place: Hashable) -> None:
        """Note that an instance has been ready for `policy.early_s`."""
        did_fail = self.fails(place)
        self._places[place] = _Place(was_ready=True)
        if did_fail and self.is_crash_looping:
            self.is_crash_looping = False
            for one in self._places.values():
                one.early_deaths = 0

    def died(self, place: Hashable, healthy_s: float) -> None:
        """Note a death that nobody ordered.

        Args:
            place: Where.
            healthy_s: How long it had been ready; 0 when it never was.
        """
        if healthy_s >= self._policy.early_s:
            self.has_lived(place)
            return
        one = self._places.setdefault(place, _Place())
        one.early_deaths += 1
        one.was_ready = one.was_ready or healthy_s > 0
        budget = self._policy.restarts + sum(one.was_ready for one in self._places.values())
        if self.early_deaths > budget and self._do_most_fail():
            self.is_crash_looping = True

    def left(self, place: Hashable) -> None:
        """Forget a place that was given up."""
        self._places.pop(place, None)
        self.is_crash_looping = self.is_crash_looping and self._do_most_fail()

    def turn_s(self, died_at_s: float) -> float:
        """Take a turn at starting while the role is crash-looping; return when it is.

        Args:
            died_at_s: When the instance died that is followed.

        Returns:
            After `policy.longest_s` at the earliest; and all places together have
            `policy.restarts` turns in that time.
        """
        apart_s = self._policy.longest_s / max(1, self._policy.restarts)
        earliest_s = died_at_s + self._policy.longest_s
        self._last_turn_s = max(earliest_s, self._last_turn_s + apart_s)
        return self._last_turn_s

    def _do_most_fail(self) -> bool:
        failing = self.failing
        well = sum(one.was_ready and one.early_deaths == 0 for one in self._places.values())
        return failing > well
