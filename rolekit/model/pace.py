"""How many deliveries an instance holds of one queue: a decision from what it got through."""

from __future__ import annotations

HOLD_S = 0.05
"""Work for so long is held beside what runs."""
MOST = 1280
STEP = 4
"""A window grows and shrinks by this factor, so it changes rarely."""


def next_window(window: int, least: int, handled: int, seconds: float) -> int:
    """Say how many deliveries to hold.

    Handlers that wait for something get `least`, which is how many run at once, so that
    other instances get the rest. Quick ones get what they do in a moment, or they would
    stand still for each round trip to the broker.

    Args:
        window: What is held at most now.
        least: How many handlers run at once.
        handled: Deliveries of the queue that were handled lately.
        seconds: In how long.

    Returns:
        `least` times a power of `STEP`. It grows when that much is got through in
        `HOLD_S`, and shrinks when it is far too much.
    """
    wanted = handled / seconds * HOLD_S
    if wanted >= window and window * STEP <= max(MOST, least):
        return window * STEP
    if wanted < window / (STEP * STEP) and window > least:
        return max(least, window // STEP)
    return window
