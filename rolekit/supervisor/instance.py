"""One incarnation of an instance, from fork to exit, as its supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from rolekit import link
from rolekit.model.recycling import START_S
from rolekit.supervisor.heard import Line

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from rolekit.model.sample import Sample
    from rolekit.model.span import Span
    from rolekit.supervisor.forker import Birth
    from rolekit.supervisor.rounds import Rounds

_log = structlog.get_logger("rolekit.supervisor")

_STATUS_S = 5  # between the pidfd and the zygote's word on how it ended
_DUMP_S = 0.5  # for a hung instance to write its stacks
_UNREAD_BYTES = 256 * 1024  # beyond, an instance gets no more wake-ups: it does not read them
_OVERSLEPT_S = 0.5
_LOOK_S = 0.25
_LAST_WORDS_S = 1  # to read what it said; a child of its that lives on keeps the line open
_CHANGE_S = 15  # for an instance to take other settings: on_change has 10
_RATE_BEATS = 6  # the rate is taken over so many


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long an instance may take for what, seconds.

    Attributes:
        start_s: From its fork until it is ready.
        silence_s: Between two words; they come every four at least.
        term_s: From SIGTERM to SIGKILL.
        release_s: For the database to take back what it held, when the fleet stops.
    """

    start_s: float = START_S
    silence_s: float = 10
    term_s: float = 5
    release_s: float = 5


class Instance:
    """A running process and the line to it.

    Every method may be called at any time; on a process that ended they do nothing.

    Attributes:
        why: Why it ended, or what went wrong when it did, where more is known than a status.
    """

    @classmethod
    async def open(
        cls, name: str, birth: Birth, line: socket.socket, patience: Patience
    ) -> Instance:
        """Take over a process that was just forked, and our end of its line."""
        return cls(name, birth, await Line.open(name, line), patience)

    def __init__(
        self,
        name: str,
        birth: Birth,
        line: Line,
        patience: Patience,
    ) -> None:
        self.name = name
        self.pid = birth.pid
        self.ready_at: float | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_span: Callable[[Span], None] = lambda _: None
        self.on_samples: Callable[[Sequence[Sample]], None] = lambda _: None
        self.on_lag: Callable[[float], None] = lambda _: None
        self.refused = ""
        self.why = ""
        self.in_hand = 0
        self.handled = 0
        self.cpu_s = 0.0
        self.lag_ms = 0.0
        self.age_s: float | None = None
        self.notes: dict[str, str] = {}
        self._birth = birth
        self._patience = patience
        self._born_at = self._heard_at = time.monotonic()
        self._spoken = asyncio.Event()
        self._handled: deque[tuple[float, int]] = deque(maxlen=_RATE_BEATS)
        self._line = line
        self._has_ended = False
        self._changed: asyncio.Future[link.Changed] | None = None

    @property
    def lived_s(self) -> float:
        """Since it was ready; 0: it is not."""
        return 0 if self.ready_at is None else time.monotonic() - self.ready_at

    @property
    def is_ready(self) -> bool:
        """Whether `on_start` has returned and it still runs."""
        return self.ready_at is not None and not self._has_ended

    @property
    def rate(self) -> float:
        """Deliveries settled per second, over the last beats."""
        if len(self._handled) < 2:  # noqa: PLR2004 - two points make a rate
            return 0
        (since, first), (until, last) = self._handled[0], self._handled[-1]
        return (last - first) / (until - since) if until > since else 0

    async def live(self) -> int | None:
        """Listen until it ended; return its exit code, minus a signal, or None if unknown."""
        exited = asyncio.Event()
        loop = asyncio.get_running_loop()
        pidfd = self._birth.pidfd
        if pidfd is None:
            self._birth.status.add_done_callback(lambda _: exited.set())
        else:
            loop.add_reader(pidfd, exited.set)
        try:
            async with asyncio.TaskGroup() as group:
                self._line.listen(self._hear)
                watching = group.create_task(self._watch())
                await exited.wait()
                if pidfd is not None:
                    loop.remove_reader(pidfd)
                watching.cancel()
                self._line.read_at_once()
                with contextlib.suppress(TimeoutError):
                    # What it said last may be unread: why it ended, spans others refer to.
                    await asyncio.wait_for(self._line.is_over.wait(), _LAST_WORDS_S)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(self._birth.status, _STATUS_S)
            return None
        finally:
            self._has_ended = True
            if pidfd is not None:
                loop.remove_reader(pidfd)
                os.close(pidfd)
            self._line.transport.close()

    def read_in(self, rounds: Rounds) -> None:
        """Have what it says read in rounds from now on, instead of at once."""
        self._line.read_in(rounds)

    def say(self, message: link.ToInstance) -> None:
        """Send a message, unless it stopped reading: then it is about to be killed anyway."""
        line = self._line.transport
        if line.is_closing() or self._has_ended:
            return
        if line.get_write_buffer_size() < _UNREAD_BYTES:
            line.write(link.encode(message))

    async def change(self, settings: Mapping[str, str]) -> link.Changed:
        """Give it other settings; return what became of them."""
        answer: asyncio.Future[link.Changed] = asyncio.get_running_loop().create_future()
        self._changed = answer
        self.say(link.Change(dict(settings)))
        try:
            async with asyncio.timeout(_CHANGE_S):
                return await answer
        except TimeoutError:
            return link.Changed(is_kept=False)

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the process."""
        if not self._has_ended:
            self._birth.send_signal(number)

    def _hear(self, message: link.ToSupervisor) -> None:
        if isinstance(message, link.Traced):
            self.on_span(message.span)
            return
        if isinstance(message, link.Measured):
            self.on_samples(message.samples)
            return
        now = self._heard_at = time.monotonic()
        self._spoken.set()
        match message:
            case link.Ready():
                self.ready_at = self.ready_at or now
                self.on_ready()
                _log.debug("ready", instance=self.name, pid=self.pid)
            case link.Beat():
                self.in_hand = message.in_hand
                self.handled = message.handled
                self.cpu_s = message.cpu_s
                self.lag_ms = message.lag_ms
                self.on_lag(message.lag_ms / 1000)
                self.age_s = message.age_s
                self.notes = message.notes
                self._handled.append((now, message.handled))
            case link.Refused(why):
                self.refused = why
            case link.Ending(why):
                self.why = why
            case link.Changed():
                if self._changed is not None and not self._changed.done():
                    self._changed.set_result(message)

    async def _watch(self) -> None:
        """Return never; end a process that is not ready in time, or says nothing for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience.start_s):
                await self._spoken.wait()
        while True:
            due_s, why = self._due()
            left_s = due_s - time.monotonic()
            if left_s > 0:
                await asyncio.sleep(left_s)
                if (overslept_s := time.monotonic() - due_s) > _OVERSLEPT_S:
                    # It is this process that was stopped or starved: what came is unread.
                    self._heard_at = time.monotonic()
                    self._born_at += overslept_s
                continue
            await self._end(why)
            self._born_at = self._heard_at = time.monotonic()

    def _due(self) -> tuple[float, str]:
        """Say until when there is patience, as it is now, and what will have been too slow.

        Rounded up, so that one turn of the loop looks after many instances.
        """
        patience = self._patience
        silent = (
            self._heard_at + patience.silence_s,
            f"it said nothing for {patience.silence_s:g} s: its loop was blocked, or stopped",
        )
        late = (
            self._born_at + patience.start_s,
            f"it was not ready in {patience.start_s:g} s, its start_s",
        )
        if self.ready_at is not None:
            due_s, why = silent
        else:
            due_s, why = min(silent, late) if self._spoken.is_set() else late
        return math.ceil(due_s / _LOOK_S) * _LOOK_S, why

    async def _end(self, why: str) -> None:
        patience = self._patience
        self.why = why
        _log.error(
            f"{why}; dumping its stacks, then SIGTERM, then SIGKILL in {patience.term_s:g} s",
            instance=self.name,
            pid=self.pid,
        )
        self.send_signal(signal.SIGUSR2)
        await asyncio.sleep(min(_DUMP_S, patience.term_s))
        self.send_signal(signal.SIGTERM)
        await asyncio.sleep(patience.term_s)
        self.send_signal(signal.SIGKILL)
