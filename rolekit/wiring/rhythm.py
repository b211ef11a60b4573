"""How often an instance looks at itself, and which beats its supervisor hears."""

from __future__ import annotations

from rolekit import link

BEAT_S = 1.0
IDLE_BEAT_S = 4.0
IDLE_AFTER = 3
"""An instance to which nothing happened for so many beats wakes, and says that it lives, only
so often; 10 s are allowed. A thousand that wake each second take a fifth of a core for it."""


class Rhythm:
    """Of one instance."""

    def __init__(self) -> None:
        self._last = link.Beat()
        self._idle = IDLE_AFTER - 1  # one that nothing comes to at first is idle at once

    @property
    def wait_s(self) -> float:
        """Seconds to the next beat."""
        return IDLE_BEAT_S if self._idle >= IDLE_AFTER else BEAT_S

    def is_said(self, beat: link.Beat) -> bool:
        """Note a beat; return whether the supervisor is to hear of it."""
        self._idle = 0 if beat.says_more_than(self._last) else self._idle + 1
        if 0 < self._idle < IDLE_AFTER:
            return False
        self._last = beat
        return True
