"""Simulate a fleet under faults, for many seeds, on every core.

    make simulate [SEEDS=20000] [FIRST=0] [APP=Waits]

Each seed is a world of its own (`simulation.py`): the real pipeline, outbox, relay and
gathers, several instances of them, on a broker and a store that repeat, delay, reorder and
drop what is not confirmed, crash, and answer "unknown". Virtual time, so nobody waits. Ends
with 1 and the seed, where one leaves anything behind that should not be.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING

from tests.property.checking import check, hear_of_bugs
from tests.property.simulated_app import APPS

if TYPE_CHECKING:
    from collections.abc import Sequence

SOME = 20
"""Seeds that one process takes at a time."""


def _live(job: tuple[str, int, int]) -> tuple[int, str]:
    """Let some seeds of an app live; say how many did, and what went wrong first."""
    name, first, last = job
    for seed in range(first, last):
        try:
            check(name, seed)
        except Exception:  # noqa: BLE001 - whatever it is, the seed shows it again
            again = f"make simulate APP={name} FIRST={seed} SEEDS=1"
            return seed - first, f"{traceback.format_exc()}\n{again} shows it again"
    return last - first, ""


def jobs(names: Sequence[str], first: int, seeds: int) -> list[tuple[str, int, int]]:
    """Share seeds out: as many for each app, in pieces."""
    each = -(-seeds // len(names))
    return [
        (name, at, min(at + SOME, first + each))
        for at in range(first, first + each, SOME)
        for name in names
    ]


def _ready() -> None:
    """Get a process ready; collecting garbage seldom saves it a sixth of its time."""
    hear_of_bugs()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def run(names: Sequence[str], first: int, seeds: int) -> int:
    """Simulate; print how it goes; return how the command ends."""
    began_s = time.monotonic()
    lived = 0
    wanted = jobs(names, first, seeds)
    with multiprocessing.get_context("fork").Pool(os.cpu_count(), _ready) as pool:
        for number, (count, wrong) in enumerate(pool.imap_unordered(_live, wanted), 1):
            lived += count
            if wrong:
                print(wrong)  # noqa: T201 - what it is for
                return 1
            if number % 100 == 0:
                print(f"{lived:,} seeds, {time.monotonic() - began_s:.0f} s", flush=True)  # noqa: T201 - likewise
    took_s = time.monotonic() - began_s
    print(f"{lived:,} seeds in {took_s:.0f} s, nothing lost, repeated or out of order")  # noqa: T201 - likewise
    return 0


def main() -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.simulate")
    parser.add_argument("--seeds", type=int, default=20_000, help="in all (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="of each app (%(default)s)")
    parser.add_argument("--app", choices=sorted(APPS), help="only this one")
    given = parser.parse_args()
    return run([given.app] if given.app else list(APPS), given.first, given.seeds)


if __name__ == "__main__":
    sys.exit(main())
