"""The rehearsal of an instance: shows what code one runs, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LIFE = """
import os, signal
from rolekit.flow.consume import Consumer
from rolekit.roles.host import Instance
from rolekit.transport.rabbitmq.consumer import QueueConsumer
from rolekit.wiring.rehearsal import Actor, rehearse

def state():
    kinds = (signal.SIGTERM, signal.SIGINT)
    count = len(os.listdir("/proc/self/fd"))
    return count, len(os.listdir("/proc/self/task")), [*map(signal.getsignal, kinds)]

before = state()
codes, made = rehearse()
ran = {*map(id, codes)}
for one in (Instance.run, Consumer.start, QueueConsumer.ack, Actor.hear):
    assert id(one.__code__) in ran, one  # from its start to the ack of its only message
assert made >= {Instance, Consumer, QueueConsumer}
assert state() == before, (state(), before)
"""
RUN_IN = """
import dis
from rolekit.flow.consume import Consumer
from rolekit.wiring.rehearsal import run_in

def specialised():
    found = dis.get_instructions(Consumer.__init__, adaptive=True)
    return sum(one.opname == "STORE_ATTR_INSTANCE_VALUE" for one in found)

before = specialised()
run_in()
print(before, specialised())
"""
TOGETHER = """
import gc, sys
from rolekit.supervisor.sharing import gather

body = "\\n    ".join(f"x = x + {n}" for n in range(40))
made, apart = [], []
for n in range(400):
    scope = {}
    exec(f"def add(x):\\n    {body}\\n    return x + {n}", scope)
    made.append(scope["add"])
    apart.append("x" * 3000)
del apart[::2]  # holes of a size that no code has
before = [one.__code__ for one in made]
gather(before[::2])
now = [one.__code__ for one in made]
assert now[1::2] == before[1::2]
assert not {*map(id, now[::2])} & {*map(id, before)}
assert [one(0) for one in made] == [780 + n for n in range(400)]

def pages(codes):
    return len({id(one) // 4096 for one in codes})

bytes_ = sum(map(sys.getsizeof, now[::2]))
print(pages(before[::2]), pages(now[::2]), bytes_ // 4096)
"""


def said(program: str, **environ: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environ}, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip


def test_it_plays_a_whole_life_and_leaves_nothing_behind() -> None:
    assert said(LIFE) == ""


def test_what_was_run_in_is_not_rewritten_by_the_instances() -> None:
    before, after = map(int, said(RUN_IN).split())

    assert before == 0
    assert after > 5, "CPython needs more lives to specialise code"


def test_it_plays_without_the_broker_that_a_file_names(tmp_path: Path) -> None:
    file = tmp_path / "broker"
    file.write_text("amqp://me:secret@127.0.0.1:1/shop")
    still = """
assert os.environ["ROLEKIT_BROKER_FILE"]
"""

    assert said(LIFE + still, ROLEKIT_BROKER_FILE=str(file)) == ""


def test_code_that_ran_is_put_together_and_does_the_same() -> None:
    apart, together, least = map(int, said(TOGETHER).split())

    assert together <= apart / 2
    assert together <= least + 3
