"""What the instances of a fleet print: shown, kept for a while, and given to who follows.

Standard output and error of an instance are one pipe, which is read here line by line. The
last lines of all of them are kept, up to a number of bytes; `rolekit logs` asks for them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolekit.config import nearest
from rolekit.errors import ConfigError
from rolekit.supervisor.control_logs import LogLine

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from rolekit.supervisor.control_logs import LogsOrder

SUPERVISOR = "(supervisor)"
KEPT_BYTES = 4 * 1024 * 1024
_LINE_BYTES = 64 * 1024  # a longer one is cut into several
_READ_BYTES = 64 * 1024
_AHEAD = 10_000  # lines that a slow follower is behind, at most
_OVERHEAD_BYTES = 200  # of a line that is kept, beside its text


@dataclass(slots=True)
class _Source:
    role: str
    instance: str
    rest: bytes = b""


@dataclass(slots=True, eq=False)
class _Follower:
    """Somebody who wants what comes; who is slow misses lines, which their numbers show."""

    order: LogsOrder
    lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=_AHEAD))
    is_given: asyncio.Event = field(default_factory=asyncio.Event)

    def give(self, line: LogLine) -> None:
        if self.order.wants(line):
            self.lines.append(line)
            self.is_given.set()


class Journal:
    """The last lines of a fleet.

    Args:
        show: Is given each line of an instance as it came; must not block.
        kept_bytes: Of lines that are kept.
    """

    def __init__(self, show: Callable[[bytes], None], kept_bytes: int = KEPT_BYTES) -> None:
        self._show = show
        self._loop = asyncio.get_running_loop()
        self._room = kept_bytes
        self._lines: deque[LogLine] = deque()
        self._count = 0
        self._sources: dict[int, _Source] = {}
        self._followers: list[_Follower] = []
        self._is_closed = False

    @property
    def followers(self) -> int:
        """How many follow now."""
        return len(self._followers)

    def read(self, role: str, instance: str, fd: int) -> None:
        """Take over a pipe and read it until nobody can write to it any more."""
        os.set_blocking(fd, False)
        self._sources[fd] = _Source(role, instance)
        self._loop.add_reader(fd, self._take, fd)

    def add(self, role: str, instance: str, text: str) -> None:
        """Keep a line, and give it to who follows."""
        self._count += 1
        line = LogLine(self._count, time.time(), role, instance, text)
        self._lines.append(line)
        self._room -= len(text) + _OVERHEAD_BYTES
        while self._room < 0:
            self._room += len(self._lines.popleft().text) + _OVERHEAD_BYTES
        for one in self._followers:
            one.give(line)

    def look_for(self, instance: str, there: Sequence[str]) -> None:
        """Make sure that an instance is there, or has left a line that is kept.

        Args:
            instance: "Deliverer/3".
            there: The names of those that its role has now, in order.

        Raises:
            ConfigError: It is not, and has not.
        """
        if instance in there or any(line.instance == instance for line in self._lines):
            return
        role = instance.partition("/")[0]
        now = "none" if not there else there[0]
        if len(there) > 1:
            now = f"{len(there)}, {there[0]} to {there[-1]}"
        raise ConfigError(
            f"There is no instance {instance}, nor a line of one that was."
            f"{nearest(instance, there)}",
            fix=f"{role} has {now} now; `rolekit logs {role}` shows the lines of all.",
        )

    def note(self, text: str) -> None:
        """Keep a line of the supervisor's own; may be called from any thread."""
        self._loop.call_soon_threadsafe(self.add, SUPERVISOR, SUPERVISOR, text)

    async def tell(self, order: LogsOrder) -> AsyncGenerator[LogLine]:
        """Give the lines that are wanted; ends when the fleet has, if it follows."""
        last = deque((one for one in self._lines if order.wants(one)), maxlen=order.lines)
        follower = _Follower(order)
        if order.follow and not self._is_closed:
            self._followers.append(follower)
        try:
            for line in last:
                yield line
            while follower in self._followers:
                await follower.is_given.wait()
                follower.is_given.clear()
                while follower.lines:
                    yield follower.lines.popleft()
        finally:
            if follower in self._followers:
                self._followers.remove(follower)

    def close(self) -> None:
        """Read what is left, and let go of every pipe and everybody who follows."""
        for fd in list(self._sources):
            while fd in self._sources and self._take(fd):
                pass
            self._let_go(fd)
        self._is_closed = True
        for one in self._followers:
            one.is_given.set()
        self._followers.clear()

    def _take(self, fd: int) -> bool:
        """Read once; return False when there is nothing now."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._let_go(fd)
            return False
        source = self._sources[fd]
        *lines, rest = (source.rest + data).split(b"\n")
        for line in lines:
            self._hear(source, line)
        if len(rest) >= _LINE_BYTES:
            self._hear(source, rest)
            rest = b""
        source.rest = rest
        return True

    def _hear(self, source: _Source, line: bytes) -> None:
        self._show(line)
        text = line.decode("utf-8", "replace").rstrip("\r")
        if text:
            self.add(source.role, source.instance, text)

    def _let_go(self, fd: int) -> None:
        source = self._sources.pop(fd, None)
        if source is None:
            return
        self._loop.remove_reader(fd)
        with suppress(OSError):
            os.close(fd)
        if source.rest:
            self._hear(source, source.rest)
