"""Objects whose references are not counted: seen in processes of their own.

On a Python without them each test sees that nothing is done. The programs run in each Python
that is found here, since the one of the tests may have none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rolekit.supervisor import immortal

ROOT = Path(__file__).parents[2]
VERSIONS = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


def pythons() -> dict[str, bool]:
    """Find interpreters; say of each whether it has immortal objects."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = {sys.executable: here in {"3.12", "3.13"}}
    for name in sorted({"3.12", "3.13"} - {here}):  # each worker of the tests in one order
        some = [*VERSIONS.glob(f"{name}.*/bin/python"), shutil.which(f"python{name}")]
        works = (str(one) for one in some if one and _runs(str(one)))
        found.update(dict.fromkeys(list(works)[:1], True))
    return found


def _runs(python: str) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


PYTHONS = pytest.mark.parametrize(
    ("python", "has_some"),
    pythons().items(),
    ids=lambda it: Path(it).parts[-3] if isinstance(it, str) else "",
)

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
SETTLED = """
import os, resource, sys
from rolekit.supervisor import immortal
from rolekit.supervisor.sharing import settle

def one(n):
    class Made:
        def __init__(self):
            made.append(self)
            self.a = self.b = n
    return Made

class Ends:
    def __init__(self):
        made.append(self)
    def __del__(self):
        made.append(self)

class Stream(__import__("io").StringIO):
    pass

made, classes = [], [one(n) for n in range(300)]
between = [[bytearray(3000) for _ in range(300)] for cls in classes if cls()]
if len(sys.argv) > 1:
    settle([*classes, Ends, Stream])
assert len(made) == len(classes), "nothing of theirs runs"
made = [None] * 1_000
immortal.make_all()
if not (pid := os.fork()):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for cls in classes:
        cls.__new__(cls)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
PAGES = """
import gc, os
from rolekit.supervisor import immortal
things = [object() for _ in range(200_000)]
gc.collect()
gc.disable()
immortal.make_all()
gc.freeze()
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


def said(python: str, program: str, *arguments: str) -> str:
    command = [python, "-c", program, *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, check=True, text=True, env=environ)
    return done.stdout.strip()


@PYTHONS
def test_nothing_that_was_there_is_counted_any_more_and_all_that_is_made_later_is(
    *, python: str, has_some: bool
) -> None:
    changed, since, looked_at = map(int, said(python, COUNTS).split())

    assert changed == (0 if has_some else looked_at)
    assert since == 10


@PYTHONS
def test_looking_at_what_was_there_copies_none_of_its_pages(
    *, python: str, has_some: bool
) -> None:
    kib = int(said(python, PAGES))

    # 200,000 objects of 16 bytes are 3.1 MiB, and the list of them 1.5.
    assert kib < 3_000 if has_some else kib > 4_500


@PYTHONS
def test_an_object_of_a_class_that_was_settled_writes_nothing_to_the_class(
    *, python: str, has_some: bool
) -> None:
    without, settled = int(said(python, SETTLED)), int(said(python, SETTLED, "settled"))

    assert settled < without / 2 if has_some else settled > without / 2


@PYTHONS
def test_garbage_of_later_is_collected_and_what_was_there_stays(
    *, python: str, has_some: bool
) -> None:
    assert said(python, LIVES_ON) == ("True True" if has_some else "False True")


def test_interpreters_that_nobody_tried_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 99, 0, "final", 0))

    assert not immortal.can_be()
    assert immortal.make_all() == 0
