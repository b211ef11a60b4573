"""What happened, for programs: the catalogue of events, and how to observe them.

    from rolekit import events

    @events.observe(events.DeadLettered)
    def page(event: events.DeadLettered) -> None:
        pager.send(f"{event.handler}: {event.reason}")

Observers run in the instance where it happened, in a thread of their own, one event after the
other. One that raises is logged; one that is slow lets events wait, 10,000 at most, and those
beyond are dropped and counted. Messages never wait for an observer.

None runs in the supervisor, which does not import the app: that an instance was killed or a
role crashes in a loop is in its log, in `rolekit.restarts` and in `rolekit ps`.

Events tell, they decide nothing: after a crash one may be missing, and after an unknown commit
one may come twice. What must happen with each dead letter belongs in a handler of
`DeadLetter[M]`, which is told in the transaction.
"""

from __future__ import annotations

import _thread
import inspect
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

log = structlog.get_logger("rolekit.events")

WAITING = 10_000
"""So many events wait for observers; those beyond are dropped."""
_SAID_AGAIN = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base of all events; to observe it is to observe everything.

    Attributes:
        at_s: When it happened, seconds since 1970.
    """

    at_s: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled(Event):
    """A handler returned; what it gave is recorded next. Told only if somebody observes it.

    Attributes:
        message: Its id.
        handler: "Role.method".
        waited_s: From when it was sent, or due, to the handler.
        took_s: In the handler.
    """

    message: str
    handler: str
    waited_s: float
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried(Event):
    """An attempt failed, and it is recorded that the message comes again.

    Attributes:
        message: Its id, which stays the same.
        handler: "Role.method".
        error: Type of what the handler raised, and in words.
        detail: Likewise.
        again_at_s: When it is due, seconds since 1970.
    """

    message: str
    handler: str
    error: str
    detail: str
    again_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLettered(Event):
    """A message became a dead letter.

    Attributes:
        id: Of the dead letter, as `rolekit dead show` takes it.
        message: Id of the message.
        handler: "Role.method".
        type: Name of the message; empty where it could not be read.
        reason: In words.
        attempts: How many it had.
    """

    id: str
    message: str
    handler: str
    type: str
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """An instance takes messages and requests from now on."""

    role: str
    pid: int = field(default_factory=os.getpid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """An instance ended in good order, or its role raised; one that was killed says nothing.

    Attributes:
        why: Of one that ended by itself; empty: it was told to.
    """

    role: str
    why: str = ""
    pid: int = field(default_factory=os.getpid)


E = TypeVar("E", bound=Event)


def observe(kind: type[E]) -> Callable[[Callable[[E], None]], Callable[[E], None]]:
    """Have a function called with each event of this kind; to be used as a decorator.

    Raises:
        ConfigError: The function is a coroutine function, which a thread cannot run.
    """

    def add(observer: Callable[[E], None]) -> Callable[[E], None]:
        if inspect.iscoroutinefunction(observer):
            raise ConfigError(
                f"{observer.__qualname__} observes {kind.__name__} and is asynchronous, but "
                "observers run in a thread.",
                fix="Write `def`; what has to wait may do so there.",
            )
        _desk.observers.append((kind, observer))
        return observer

    return add


def forget(observer: Callable[[Any], None]) -> None:
    """Call this one no more."""
    _desk.observers = [one for one in _desk.observers if one[1] is not observer]


def is_observed(kind: type[Event]) -> bool:
    """Say whether anybody wants events of this kind."""
    return any(issubclass(kind, wanted) for wanted, _ in _desk.observers)


def emit(event: Event) -> None:
    """Tell observers; returns at once, and never raises."""
    try:
        _desk.take(event)
    except RuntimeError as error:  # this system allows no other thread now
        log.warning("an event was not told", what=type(event).__name__, error=str(error))


def drain(within_s: float) -> bool:
    """Wait until all that was told so far was observed; False: it took longer. Blocks."""
    return _desk.drain(within_s)


def waiting() -> int:
    """Say how many events were not observed yet."""
    return _desk.told - _desk.seen


def dropped() -> int:
    """Say how many events this process dropped, since observers were slow."""
    return _desk.dropped


@contextmanager
def silenced() -> Generator[None]:
    """Tell nobody inside this block: the zygote, which rehearses, may have no thread."""
    _desk.is_silent = True
    try:
        yield
    finally:
        _desk.is_silent = False


class _Desk:
    """Events of one process that wait, and the thread that observes them."""

    def __init__(self, observers: list[tuple[type[Event], Callable[[Any], None]]]) -> None:
        self.observers = observers
        self._waiting: SimpleQueue[Event | threading.Event] = SimpleQueue()
        self.told = self.seen = self.dropped = 0
        self.is_silent = False
        self._failures = 0
        self._is_running = False

    def take(self, event: Event) -> None:
        if self.is_silent or not is_observed(type(event)):
            return
        if self.told - self.seen >= WAITING:
            self.dropped += 1
            if self.dropped % _SAID_AGAIN == 1:
                log.warning("observers are slow; events are dropped", dropped=self.dropped)
            return
        self.told += 1
        self._waiting.put(event)
        if not self._is_running:
            # `threading.Thread.start` waits for the thread, and an event loop must not.
            _thread.start_new_thread(self._run, ())
            self._is_running = True

    def drain(self, within_s: float) -> bool:
        if not self._is_running:
            return True
        done = threading.Event()
        self._waiting.put(done)
        return done.wait(within_s)

    def _run(self) -> None:
        while True:
            event = self._waiting.get()
            if isinstance(event, threading.Event):
                event.set()
                continue
            for kind, observer in self.observers:
                if isinstance(event, kind):
                    self._observe(observer, event)
            self.seen += 1

    def _observe(self, observer: Callable[[Any], None], event: Event) -> None:
        try:
            observer(event)
        except Exception:
            self._failures += 1
            if self._failures % _SAID_AGAIN == 1:
                log.exception(
                    "an observer raised; the event is over for it, others go on",
                    observer=getattr(observer, "__qualname__", repr(observer)),
                    what=type(event).__name__,
                    failures=self._failures,
                )


_desk = _Desk([])


def _begin_anew() -> None:
    """A thread does not survive a fork, and what waited is the parent's to tell."""
    global _desk  # noqa: PLW0603 - one of each process
    _desk = _Desk(_desk.observers)


os.register_at_fork(after_in_child=_begin_anew)
