"""How much longer than on a quiet machine a test waits before it says that something is not so.

The machine that runs the tests may be busy with others, and runs two tests at a time: what
takes a second when alone may take ten there, and is no defect. Waiting longer costs nothing
where all is well. Times that are promised are stretched too, so only `make faults`, and
`ROLEKIT_PATIENCE=1 make test` with nothing else at work, hold them to the promise.
"""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("ROLEKIT_PATIENCE", "3"))


def patient(seconds: float) -> float:
    """Stretch a limit, of waiting or of what may have passed, to what a busy machine needs."""
    return seconds * PATIENCE
