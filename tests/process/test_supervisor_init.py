"""Being process 1: pass signals on, reap strangers, end as the supervisor ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.patience import patient
from tests.process.supervised import ROOT

BEFORE = "import os, signal, sys; from rolekit.supervisor.init import serve_as_first; "


def start(code: str, *, start_new_session: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BEFORE + code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=start_new_session,
    )


def test_it_ends_with_the_exit_code_of_the_supervisor() -> None:
    with start("serve_as_first(); sys.exit(7)") as first:
        code = first.wait(patient(10))

    assert code == 7


def test_a_supervisor_that_was_killed_is_told_as_shells_do() -> None:
    with start("serve_as_first(); os.kill(os.getpid(), 9)") as first:
        code = first.wait(patient(10))

    assert code == 128 + 9


def test_signals_reach_the_supervisor() -> None:
    stops = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); "
    with start(f"serve_as_first(); {stops}print('here', flush=True); signal.pause()") as first:
        assert first.stdout is not None
        first.stdout.readline()

        first.send_signal(signal.SIGTERM)
        code = first.wait(patient(10))

    assert code == 5


def test_a_child_of_somebody_else_is_reaped_and_does_not_end_it() -> None:
    stranger = "os.fork() or os._exit(3); serve_as_first(); import time; time.sleep(0.3); "
    seen = "sys.exit(os.path.exists(f'/proc/{os.getppid()}/task') and 9)"
    with start(stranger + seen) as first:
        code = first.wait(patient(10))

    assert code == 9


def test_a_signal_to_the_whole_group_arrives_once() -> None:
    counts = "n = []; signal.signal(signal.SIGINT, lambda *_: n.append(1)); "
    waits = "import time; print('here', flush=True)\nwhile not n: time.sleep(0.01)\n"
    code = f"serve_as_first(); {counts}{waits}time.sleep(0.3); sys.exit(len(n))"
    with start(code, start_new_session=True) as first:
        assert first.stdout is not None
        first.stdout.readline()

        os.killpg(first.pid, signal.SIGINT)
        count = first.wait(patient(10))

    assert count == 1
