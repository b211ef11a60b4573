"""How many deliveries an instance holds of one queue: a decision from what it got through."""

from __future__ import annotations

HOLD_S = 0.05
"""Work for so long is held beside what runs."""
MOST = 1280
STEP = 4
"""A window grows and shrinks by this factor, so it changes rarely."""


def grown(window: int, least: int, handled: int, seconds: float) -> int:
    """Say how many deliveries to hold after a short while in which so many were handled.

    Handlers that wait for something get `least`, which is how many run at once, so that
    other instances get the rest. Quick ones get what they do in a moment, or they would
    stand still for each round trip to the broker.

    Args:
        window: What is held at most now.
        least: How many handlers run at once.
        handled: Deliveries of the queue that were handled in that while.
        seconds: How long it was.

    Returns:
        The window, or `STEP` times as much when that much is got through in `HOLD_S`.
    """
    is_quick = handled / seconds * HOLD_S >= window
    return window * STEP if is_quick and window * STEP <= max(MOST, least) else window


def shrunk(window: int, least: int, handled: int, seconds: float) -> int:
    """Say how many deliveries to hold after a longer while, likewise.

    Returns:
        The window, or a `STEP`th of it, not less than `least`, when it is far too much.
    """
    is_slow = handled / seconds * HOLD_S < window / (STEP * STEP)
    return max(least, window // STEP) if is_slow and window > least else window
