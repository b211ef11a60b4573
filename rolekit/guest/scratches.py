"""What a spawner does without a sandbox: a folder for each run, and nothing left of the last.

A run has the rights, the files and the network of the instance, so only this is its own: a
folder that it starts in, and processes. Both are ended before the next begins. The spawner is
the parent of every orphan below it, so it finds each, also in a session of its own. A run may
change what the spawner passes on, as it may of every process of its user: its limits, its
cgroup, how nice it is. Then the next run has another spawner.

A run cannot be told by the kernel to die with the spawner: only a process itself can ask for
that, and a program does not. So a spawner whose keeper dies is told instead, and ends all
below it; when the spawner dies, its keeper does; and when both do, the instance or who starts
guests next, by the cgroup, and the supervisor, which adopts what is left of its instances.

Like `keeper`, of which it is a part, it imports nothing of rolekit.

Source: PR_SET_PDEATHSIG(2const).
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

if TYPE_CHECKING or __package__:
    from rolekit.guest import kin, starting
else:  # as a script: from beside it, and nothing else from there
    sys.path.insert(0, str(Path(__file__).parent))
    import kin
    import starting

    del sys.path[0]


class Scratches:
    """A folder for each run, one after another; see `spawner.Place`.

    Args:
        base: Folder to make them in. Its owner removes it.
    """

    death_signal = signal.SIGTERM

    def __init__(self, base: Path) -> None:
        self._base = base
        self._runs = 0
        self.fds: list[int] = []
        self.scratch = ""

    def enter(self, limits: Mapping[str, int]) -> None:
        """Be ready for the first run."""
        signal.signal(self.death_signal, _end)
        kin.adopt_orphans()
        me = os.getpid()  # and its only thread
        self._children = os.open(f"/proc/self/task/{me}/children", os.O_RDONLY | os.O_CLOEXEC)
        self._make()
        starting.limit(0, limits)
        self._states = [
            os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for name in ("oom_score_adj", "cgroup", "limits")
        ]
        self._before = self._passed_on()

    def is_left_clean(self) -> bool:
        """Have no process left of a run; whether that is possible, and all is as before."""
        has_left = bool(os.pread(self._children, 1, 0))
        is_ended = not has_left or (
            # Of those it cannot find, as where a run took its descriptors, it has the list.
            kin.kill_all(kin.descendants) and not os.pread(self._children, 1, 0)
        )
        return is_ended and self._passed_on() == self._before

    def _passed_on(self) -> tuple[object, ...]:
        """What each run has from here."""
        states = [os.pread(fd, 1 << 14, 0) for fd in self._states]
        nice, policy = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
        return nice, policy, os.sched_getaffinity(0), states

    def renew(self) -> None:
        """Have a new folder in place of the last."""
        try:
            os.rmdir(self.scratch)  # noqa: PTH106 - in a row, each run waits for it
        except OSError:  # there is something in it
            shutil.rmtree(self.scratch, ignore_errors=True)
        self._make()

    def _make(self) -> None:
        self._runs += 1
        self.scratch = f"{self._base}/{self._runs}"
        os.mkdir(self.scratch, 0o700)  # noqa: PTH102 - as above
        os.chdir(self.scratch)


def _end(_number: int, _frame: FrameType | None) -> None:
    """Die with all below."""
    kin.kill_all(kin.descendants)
    os._exit(0)
