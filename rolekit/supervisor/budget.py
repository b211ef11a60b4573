"""The budgets of roles: whose places keep dying, so that they are filled more slowly."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from rolekit.model.intensity import Intensity

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from rolekit.model.restart import RestartPolicy

_log = structlog.get_logger("rolekit.supervisor")


class RoleBudget:
    """The budget that the places of one role share; see `rolekit.model.intensity`.

    Args:
        role: Its name.
        policy: The numbers.
        tell: Remembers what happened to a role, for people.
    """

    def __init__(
        self, role: str, policy: RestartPolicy, tell: Callable[[str, str], None]
    ) -> None:
        self._role = role
        self._policy = policy
        self._tell = tell
        self._intensity = Intensity(policy)
        self._is_over = asyncio.Event()
        self._died_s: dict[Hashable, float] = {}
        self._soon: dict[Hashable, asyncio.TimerHandle] = {}

    def holds(self, place: Hashable) -> bool:
        """Whether a place is among those for which its role is crash-looping."""
        return self._intensity.is_crash_looping and self._intensity.fails(place)

    def was_ready(self, place: Hashable) -> None:
        """Note that an instance is ready, and look again when it has lived."""
        self._forget(place)
        self._intensity.was_ready(place)
        if self._intensity.fails(place):
            loop = asyncio.get_running_loop()
            self._soon[place] = loop.call_later(self._policy.early_s, self._has_lived, place)

    def died(self, place: Hashable, healthy_s: float) -> None:
        """Note a death that nobody ordered, `healthy_s` after being ready; 0: it never was."""
        self._forget(place)
        self._died_s[place] = time.monotonic()
        was_crash_looping = self._intensity.is_crash_looping
        self._intensity.died(place, healthy_s)
        self._compare(was_crash_looping)

    def left(self, place: Hashable) -> None:
        """Forget a place that was given up."""
        self._forget(place)
        self._died_s.pop(place, None)
        was_crash_looping = self._intensity.is_crash_looping
        self._intensity.left(place)
        self._compare(was_crash_looping)

    async def turn(self, place: Hashable, leaving: asyncio.Event) -> None:
        """Wait for a turn at starting, if a place is held up, or until it is given up."""
        if not self.holds(place):
            return
        wait_s = self._intensity.turn_s(self._died_s[place]) - time.monotonic()
        ends = [asyncio.ensure_future(one.wait()) for one in (leaving, self._is_over)]
        try:
            await asyncio.wait(
                ends, timeout=max(0, wait_s), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for end in ends:
                end.cancel()

    def _has_lived(self, place: Hashable) -> None:
        was_crash_looping = self._intensity.is_crash_looping
        self._intensity.has_lived(place)
        self._compare(was_crash_looping)

    def _forget(self, place: Hashable) -> None:
        if (timer := self._soon.pop(place, None)) is not None:
            timer.cancel()

    def _compare(self, was_crash_looping: bool) -> None:  # noqa: FBT001 - what it was
        """Say so where a crash loop began, or ended."""
        if self._intensity.is_crash_looping == was_crash_looping:
            return
        if was_crash_looping:
            self._is_over.set()
            self._tell(self._role, "no longer crash-looping")
            _log.info("no longer crash-looping", role=self._role)
            return
        self._is_over.clear()
        what = (
            f"crash-looping: {self._intensity.early_deaths} deaths in a row at "
            f"{self._intensity.failing} places, none of them "
            f"{self._policy.early_s:g} s after being ready"
        )
        self._tell(self._role, what)
        _log.error(
            f"{what}; {self._policy.restarts} are tried again every "
            f"{self._policy.longest_s:g} s. The log lines of its instances say why they die",
            role=self._role,
        )


class Budgets:
    """One for each role.

    Args:
        policy: The numbers.
        tell: Remembers what happened to a role, for people.
    """

    def __init__(self, policy: RestartPolicy, tell: Callable[[str, str], None]) -> None:
        self._policy = policy
        self._tell = tell
        self._of: dict[str, RoleBudget] = {}

    def of(self, role: str) -> RoleBudget:
        """Return that of a role."""
        if role not in self._of:
            self._of[role] = RoleBudget(role, self._policy, self._tell)
        return self._of[role]
