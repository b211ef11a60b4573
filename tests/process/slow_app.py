"""An app whose import takes long."""

from __future__ import annotations

import time

print("importing slowly", flush=True)  # noqa: T201 - read by the test
time.sleep(600)
