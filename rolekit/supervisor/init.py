"""Being process 1 of a container: reap everybody's orphans, pass signals on.

The supervisor itself then runs in a child, so that reaping strangers here cannot take an
exit status from under the code that started a process and waits for it.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from rolekit.supervisor.linux import die_with_parent

if TYPE_CHECKING:
    from types import FrameType

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)


def step_aside_if_first() -> None:
    """Return in a child if this is process 1; the parent reaps, and ends with its status.

    Call this before any thread or event loop is there. Does nothing in any other process.
    """
    if os.getpid() == 1:
        serve_as_first()


def serve_as_first() -> None:
    """Fork; return in the child only."""
    me = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child == 0:
        die_with_parent(me)
        os.setsid()  # a terminal's Ctrl-C goes to a whole group: it must arrive here once
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        return

    def pass_on(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
