"""What the zygote does to its memory before it forks; seen in processes of their own."""

from __future__ import annotations

import subprocess
import sys

HOLES = """
import sys
from rolekit.supervisor.sharing import filling
length = 208 - sys.getsizeof(b"")
made = [bytes(length) for _ in range(2_000)]
del made[::2]
if len(sys.argv) > 1:
    filled = filling(208)
places = [bytes(length) for _ in range(20)]
print(max(map(id, places)) - min(map(id, places)))
"""
FROZEN = """
import gc
from rolekit.supervisor.sharing import freeze
freeze()
print(gc.get_freeze_count() > len(gc.get_objects()), gc.isenabled())
"""


def said(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def test_what_is_made_after_holes_were_filled_lies_together() -> None:
    without, filled = int(said(HOLES)), int(said(HOLES, "filled"))

    assert filled < 20 * 208 < without


def test_what_is_there_is_kept_from_the_garbage_collection() -> None:
    assert said(FROZEN) == "True False"
