"""The circuit of a handler in one instance: which of its calls run, and what they say.

A circuit is that of one instance: what fails here, because of this host's network say, may work
elsewhere, and nobody has to ask anybody before a call. An instance learns by itself, from
`at_least` calls.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import CodecError, Reject, Retry, TooOld, UnknownType
from rolekit.model.circuit import Breaker

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.clock import Clock
    from rolekit.model.plan import HandlerPlan
    from rolekit.transport.base import Delivery

log = structlog.get_logger("rolekit.gates")

NOT_A_FAILURE = (Reject, CodecError, TooOld, UnknownType)
"""The handler judged its message, or never saw it: the handler itself works."""


class Calls:
    """Calls of one handler, and its circuit; without one they all run.

    Args:
        plan: Of the handler.
        clock: The time.

    Attributes:
        on_open: Called when the circuit has opened, with the time when its pause is over.
        on_close: Called when it has closed again.
    """

    def __init__(self, plan: HandlerPlan, clock: Clock) -> None:
        self._handler = plan.name
        self._policy = plan.circuit
        self._breaker = None if plan.circuit is None else Breaker(plan.circuit)
        self._clock = clock
        self._running: dict[int, bool] = {}
        self._failed: set[int] = set()
        self.on_open: Callable[[int], None] = lambda _: None
        self.on_close: Callable[[], None] = lambda: None

    @property
    def note(self) -> str:
        """What people should know of it now; empty: nothing."""
        is_open = self._breaker is not None and self._breaker.state != "closed"
        return "circuit open" if is_open else ""

    @property
    def is_shut(self) -> bool:
        """Whether no call may begin: it is open, or a probe runs."""
        return self._breaker is not None and not self._breaker.may_begin(self._clock.now_ms())

    @property
    def is_paused(self) -> bool:
        """Whether it is open: nothing was tried since."""
        return self._breaker is not None and self._breaker.state == "open"

    def again_ms(self) -> int:
        """Say when to come again, where a call may not begin: in the pause behind this one.

        Not all at once: one of them is enough to find out.
        """
        if self._policy is None or self._breaker is None:
            return self._clock.now_ms()
        begin_ms = max(self._breaker.open_until_ms, self._clock.now_ms())
        return begin_ms + round(self._policy.pause_s * 1000 * random.random())  # noqa: S311 - jitter

    def begin(self, delivery: Delivery) -> bool:
        """Ask for a call; False: not now."""
        if self._breaker is None:
            return True
        if not self._breaker.begin(self._clock.now_ms()):
            return False
        self._running[id(delivery)] = self._breaker.is_probing
        return True

    def forget(self, delivery: Delivery) -> None:
        """Note that a call that was asked for came to nothing; a probe is left to another."""
        self._failed.discard(id(delivery))
        if self._running.pop(id(delivery), False) and self._breaker is not None:
            self._breaker.gave_up()

    def failed(self, delivery: Delivery, error: Exception) -> None:
        """Note what a call raised. Called before `ended`; afterwards it is not its failure."""
        if id(delivery) in self._running and is_failure(error):
            self._failed.add(id(delivery))

    def ended(self, delivery: Delivery) -> None:
        """Note that a call ended."""
        is_probe = self._running.pop(id(delivery), None)
        breaker = self._breaker
        if is_probe is None or breaker is None:
            return
        has_failed = id(delivery) in self._failed
        self._failed.discard(id(delivery))
        now_ms, before = self._clock.now_ms(), breaker.state
        failures, calls = breaker.counts(now_ms) if before == "closed" else (0, 0)
        breaker.ended(now_ms, failed=has_failed, is_probe=is_probe)
        if breaker.state == before:
            return
        if breaker.state == "open":
            log.warning(
                "circuit open; what is for it waits, and no attempts are used up",
                handler=self._handler,
                failures=failures + 1,
                calls=calls + 1,
                probes_in_s=(breaker.open_until_ms - now_ms) / 1000,
            )
            self.on_open(breaker.open_until_ms)
        elif before == "probing":
            log.info("circuit closed; messages are taken again", handler=self._handler)
            self.on_close()


def is_failure(error: Exception) -> bool:
    """Say whether an error speaks against the handler, or what it calls.

    `Reject` and `Retry(counts=False)` do not: who raises them was answered.
    """
    if isinstance(error, Retry):
        return error.counts
    return not isinstance(error, NOT_A_FAILURE)
