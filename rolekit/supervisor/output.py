"""Standard output and error of a process that must not wait for whoever reads them.

An instance writes into a pipe that its supervisor reads. A supervisor that was stopped
(SIGSTOP, a debugger) reads nothing; once the pipe is full, an instance that waited would stand
still with it. So it waits once, for a moment, and then loses lines until there is room again,
and says how many.

The streams are put in place before the app is imported, since a logging handler keeps the
stream that it was made with; they begin to lose lines only in an instance.
"""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PATIENCE_MS = 200  # a reader that is only busy is back by then
_PIECE_BYTES = 4096  # PIPE_BUF: a pipe with room takes so much at once, or says it has none
_OUT, _ERR = 1, 2


class Outlet(io.RawIOBase):
    """Writes to a descriptor, and does not wait long once `never_wait` was called.

    What a subprocess writes to the same pipe may still fill it between the look and the
    write; only then does a write here wait.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll: select.poll | None = None
        self._lock = threading.RLock()  # reentrant: a signal handler may print
        self._lost = 0

    def never_wait(self) -> None:
        """Lose from now on what cannot be written soon."""
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Say whether a person reads it."""
        return os.isatty(self._fd)

    def write(self, data: Buffer, /) -> int:
        """Write all of it, or lose the rest; returns its length."""
        view = memoryview(data).cast("B")
        if self._poll is None:
            return os.write(self._fd, view)
        with self._lock:
            if self._lost and self._put(_lament(self._lost)):
                self._lost = 0
            for start in range(0, len(view), _PIECE_BYTES):
                if self._lost or not self._put(view[start : start + _PIECE_BYTES]):
                    self._lost += max(1, bytes(view[start:]).count(b"\n"))
                    break
        return len(view)

    def _put(self, piece: memoryview | bytes) -> bool:
        assert self._poll is not None  # noqa: S101 - `write` looked
        patience_ms = 0 if self._lost else _PATIENCE_MS
        if not any(event & select.POLLOUT for _, event in self._poll.poll(patience_ms)):
            return False
        try:
            os.write(self._fd, piece)
        except OSError:  # nobody will ever read it
            return False
        return True


def _lament(lost: int) -> bytes:
    return f"\n{lost} lines were lost here: nobody read them in time\n".encode()


_outlets: list[Outlet] = []


def install() -> None:
    """Put such streams in the place of standard output and error, line by line."""
    for name, fd in (("stdout", _OUT), ("stderr", _ERR)):
        outlet = Outlet(fd)
        _outlets.append(outlet)
        stream = io.TextIOWrapper(
            io.BufferedWriter(outlet),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        setattr(sys, name, stream)


def send_to(pipe: int) -> None:
    """Write both to this pipe from now on, never waiting for its reader; takes it over."""
    for fd in (_OUT, _ERR):
        os.dup2(pipe, fd)
    os.close(pipe)
    for outlet in _outlets:
        outlet.never_wait()
