"""Writes lines to standard error from a thread.

A terminal that somebody stopped (Ctrl-S), or a collector that hangs, must not stop the
supervisor, on which every instance depends. What waits too long is dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_WAITING_BYTES = 4 * 1024 * 1024
_AT_ONCE_BYTES = 256 * 1024
_FLUSH_S = 1.0
_ERR = 2


class Printer:
    """Takes lines without waiting; another thread writes them.

    Args:
        fd: To which.
        render: What is written for a line; called in the thread.
    """

    def __init__(self, fd: int = _ERR, render: Callable[[bytes], bytes] | None = None) -> None:
        self._fd = fd
        self._render = render
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="printer", daemon=True)

    def __call__(self, line: bytes) -> None:
        """Have a line written, without its end."""
        with self._changed:
            if self._size + len(line) > _WAITING_BYTES:
                self._lost += 1
                return
            if self._lost:
                self._put(f"{self._lost} lines were lost here: nobody took them".encode())
                self._lost = 0
            self._put(line)
            self._changed.notify()

    @contextlib.contextmanager
    def running(self) -> Generator[None]:
        """Write inside the block; what is left at its end has a second."""
        self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._is_closed = True
                self._changed.notify()
            self._thread.join(_FLUSH_S)

    def _put(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)

    def _write_all(self) -> None:
        while lines := self._next():
            render = self._render
            data = b"".join((render(line) if render else line) + b"\n" for line in lines)
            view = memoryview(data)
            while view:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:  # somebody who shares it set it so
                    select.select([], [self._fd], [], 1)
                except OSError:  # nobody reads them any more
                    return

    def _next(self) -> list[bytes]:
        with self._changed:
            while not self._lines and not self._is_closed:
                self._changed.wait()
            taken: list[bytes] = []
            size = 0
            while self._lines and size < _AT_ONCE_BYTES:
                line = self._lines.popleft()
                size += len(line)
                taken.append(line)
            self._size -= size
            return taken
