"""What the zygote does to its memory before it forks; seen in processes of their own."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

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
LARGER_HOLES = """
import sys
from rolekit.supervisor.sharing import filling_beyond

length = 656 - 8 - sys.getsizeof(b"")
made = [b"x" * length for _ in range(800)]
del made[::2]  # some of them glibc keeps at hand for others of this size
if len(sys.argv) > 1:
    filled = filling_beyond(656)
places = [b"x" * length for _ in range(20)]
print(max(map(id, places)) - min(map(id, places)))
"""
FROZEN = """
import gc
from rolekit.supervisor.sharing import freeze
freeze()
print(gc.get_freeze_count() > len(gc.get_objects()), gc.isenabled())
"""
LARGE = """
import ctypes, mmap, sys
from pathlib import Path
from rolekit.supervisor import linux

def large() -> int:
    lines = Path("/proc/self/smaps").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))

area = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, len(area), mmap.PAGESIZE):
    area[at] = at >> 12 & 0xFF
before = large()
if len(sys.argv) > 1:
    linux.use_large_pages()
kept = all(area[at] == at >> 12 & 0xFF for at in range(0, len(area), mmap.PAGESIZE))
print(large() - before, kept)
"""
HAS_LARGE = Path("/sys/kernel/mm/transparent_hugepage/enabled").exists() and tuple(
    int(part) for part in platform.release().split(".")[:2]
) >= (6, 1)


def said(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def test_what_is_made_after_holes_were_filled_lies_together() -> None:
    without, filled = int(said(HOLES)), int(said(HOLES, "filled"))

    assert filled < 20 * 208 < without


def test_what_is_larger_and_made_after_holes_were_filled_lies_together() -> None:
    without, filled = int(said(LARGER_HOLES)), int(said(LARGER_HOLES, "filled"))

    assert filled < 20 * 656 < without


def test_what_is_there_is_kept_from_the_garbage_collection() -> None:
    assert said(FROZEN) == "True False"


def test_what_was_written_is_put_into_large_pages_and_stays_as_it_is() -> None:
    without, put = said(LARGE).split(), said(LARGE, "put").split()

    assert without == ["0", "True"]
    assert put[1] == "True"
    # 16 MiB hold at least seven of 2 MiB; an older kernel has none, and says so.
    assert int(put[0]) >= 7 * 2048 if HAS_LARGE else int(put[0]) == 0
