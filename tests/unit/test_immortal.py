"""Objects whose references are not counted: seen in processes of their own.

On a Python without them each test sees that nothing is done.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from rolekit.supervisor import immortal

if TYPE_CHECKING:
    import pytest

SUPPORTED = (3, 12) <= sys.version_info[:2] <= (3, 13)

COUNTS = """
import sys
from rolekit.supervisor import immortal

class Thing:
    word = "a word of its own"

def work():
    return Thing.word, 12345.678, "another word"

def there():
    code = work.__code__
    return [
        Thing, Thing.word, Thing.__dict__["word"], work, code, code.co_consts, code.co_names,
        *code.co_consts[1:], code.co_qualname, work.__globals__, sys,
    ]

def counts():
    return [sys.getrefcount(one) for one in there()]

immortal.make_all()
before = counts()
more = [there() for _ in range(10)]
after = counts()
made_since = ["made since"]
since = sys.getrefcount(made_since)
again = [made_since] * 10
changed = sum(a != b for a, b in zip(before, after))
print(changed, sys.getrefcount(made_since) - since, len(before))
"""
PAGES = """
import os
from rolekit.supervisor import sharing
things = [object() for _ in range(200_000)]
sharing.freeze()
woken, waker = os.pipe()
if not os.fork():
    held = list(things)  # which looks at each of them
    with open("/proc/self/smaps_rollup") as file:
        dirty = sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty"))
    os.write(waker, str(dirty).encode())
    os._exit(0)
print(os.read(woken, 20).decode())
os.wait()
"""
LIVES_ON = """
import asyncio, gc, weakref
from rolekit.supervisor import immortal

class Node:
    other = None

old = Node()
old.other = old
immortal.make_all()
gc.freeze()
held = weakref.ref(old)
new = Node()
new.other, old.other = new, new
seen = weakref.ref(new)
old.other = None
del new, old
gc.collect()
async def nothing():
    await asyncio.sleep(0)
asyncio.run(nothing())
print(held() is not None, seen() is None)
"""


def said(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def test_nothing_that_was_there_is_counted_any_more_and_all_that_is_made_later_is() -> None:
    changed, since, looked_at = map(int, said(COUNTS).split())

    assert changed == (0 if SUPPORTED else looked_at)
    assert since == 10


def test_looking_at_what_was_there_copies_none_of_its_pages() -> None:
    kib = int(said(PAGES))

    # 200,000 objects of 16 bytes are 3.1 MiB, and the list of them 1.5.
    if SUPPORTED:
        assert kib < 3_000
    else:
        assert kib > 4_500


def test_garbage_of_later_is_collected_and_what_was_there_stays() -> None:
    assert said(LIVES_ON) == ("True True" if SUPPORTED else "False True")


def test_interpreters_that_nobody_tried_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 99, 0, "final", 0))

    assert not immortal.can_be()
    assert immortal.make_all() == 0
