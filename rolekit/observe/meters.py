"""Numbers that one process counts, since it began.

Each is a cell that whoever counts looks up once and keeps: adding to it is what it costs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from rolekit.model.sample import METRICS, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.model.envelope import Packet

Labels = tuple[tuple[str, str], ...]

MOST_ERRORS = 20
"""So many types of errors of a handler are told apart."""
OTHER = "_OTHER"
"""What OpenTelemetry calls the rest of them."""


def error_type(error: BaseException) -> str:
    """Name what went wrong, as spans do."""
    return type(error).__name__


class Counter:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Histogram:
    """How often which sizes came."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def add_all(self, values: list[float]) -> None:
        """Count many, which takes a tenth of counting one by one."""
        values.sort()
        self.total += sum(values)
        before = 0
        for at, bound in enumerate(self._bounds):
            below = bisect_right(values, bound)
            self.counts[at] += below - before
            before = below
        self.counts[-1] += len(values) - before


class Meters:
    """The cells of one process."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, Labels], Counter] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}
        self._handlers: dict[str, HandlerMeters] = {}

    def handler(self, name: str) -> HandlerMeters:
        """Return the cells of a handler."""
        return self._handlers.setdefault(name, HandlerMeters(name))

    def came_to(self, outcome: str, packets: Iterable[Packet]) -> None:
        """Count what came of messages that are settled without being handled.

        Args:
            outcome: As of `HandlerMeters`.
            packets: Their queues name the handlers.
        """
        for packet in packets:
            self.handler(packet.queue).came_to(outcome)

    @property
    def settled(self) -> int:
        """How many messages came to anything."""
        return sum(one.settled for one in self._handlers.values())

    def counter(self, name: str, **labels: str) -> Counter:
        """Return a counter's cell."""
        key = (name, tuple(sorted(labels.items())))
        return self._counters.setdefault(key, Counter())

    def histogram(self, name: str, **labels: str) -> Histogram:
        """Return a histogram's cell."""
        key = (name, tuple(sorted(labels.items())))
        found = self._histograms.get(key)
        if found is None:
            found = self._histograms[key] = Histogram(METRICS[name].bounds)
        return found

    def _raised(self, handler: str, error: str) -> Histogram:
        labels = {"handler": handler, "error.type": error}
        return self.histogram("messaging.process.duration", **labels)

    def read(self) -> tuple[Sample, ...]:
        """Return all that was counted so far."""
        outcomes: list[Sample] = []
        for one in self._handlers.values():
            took, waited, one.took, one.waited = one.took, one.waited, [], []
            self.histogram("messaging.process.duration", handler=one.name).add_all(took)
            self.histogram("rolekit.queue.wait", handler=one.name).add_all(waited)
            for error, failed in one.failed.items():
                self._raised(one.name, error).add_all(failed)
                failed.clear()
            outcomes += one.outcomes()
        counters = [
            Sample(name, labels, cell.value)
            for (name, labels), cell in self._counters.items()
            if cell.value
        ]
        histograms = [
            Sample(name, labels, cell.total, tuple(cell.counts))
            for (name, labels), cell in self._histograms.items()
            if any(cell.counts)
        ]
        return (*counters, *histograms, *outcomes)


class HandlerMeters:
    """What is counted of one handler, as cheaply as can be: once a second it is sorted.

    Attributes:
        took: Seconds of each call since then that gave something.
        failed: Likewise of those that raised, by type of the error.
        waited: Seconds that each of those messages waited.
        done: How many messages came to that, and so on.
    """

    __slots__ = (
        "aside", "dead", "done", "failed", "name", "repeat", "retry", "returned", "took",
        "waited",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.took: list[float] = []
        self.failed: dict[str, list[float]] = {}
        self.waited: list[float] = []
        self.done = self.retry = self.dead = self.repeat = self.returned = self.aside = 0

    def came_to(self, outcome: str) -> None:
        """Count one: done, retry, dead, repeat, returned or aside."""
        setattr(self, outcome, getattr(self, outcome) + 1)

    def raised(self, error: BaseException, took_s: float) -> None:
        """Count a call that failed."""
        kind = error_type(error)
        if kind not in self.failed and len(self.failed) >= MOST_ERRORS:
            kind = OTHER
        self.failed.setdefault(kind, []).append(took_s)

    @property
    def settled(self) -> int:
        """All of them."""
        return self.done + self.retry + self.dead + self.repeat + self.returned + self.aside

    def outcomes(self) -> list[Sample]:
        """Return what messages came to."""
        counts = {
            "aside": self.aside, "dead": self.dead, "done": self.done,
            "repeat": self.repeat, "retry": self.retry, "returned": self.returned,
        }  # fmt: skip
        return [
            Sample("rolekit.outcomes", (("handler", self.name), ("outcome", outcome)), count)
            for outcome, count in counts.items()
            if count
        ]


class FlowMeters:
    """The cells of what every process of a flow does."""

    __slots__ = (
        "_meters", "commit_steps", "commit_took", "conflicts", "consumed", "send_took", "sent",
    )  # fmt: skip

    def __init__(self, meters: Meters) -> None:
        duration = "messaging.client.operation.duration"
        self._meters = meters
        self.commit_took = meters.histogram(duration, operation="commit")
        self.send_took = meters.histogram(duration, operation="send")
        self.commit_steps = meters.histogram("rolekit.commit.steps")
        self.conflicts = meters.counter("rolekit.inbox.conflicts")
        self.sent = meters.counter("messaging.client.sent.messages")
        self.consumed = meters.counter("messaging.client.consumed.messages")

    def left(self, count: int, took_s: float) -> None:
        """Count messages that were sent together."""
        self.sent.value += count
        self.send_took.add(took_s)

    def committed(self, steps: int, fresh: int, took_s: float, sent: int = 0) -> None:
        """Count a commit, and the messages that it put into queues of the same database."""
        self.sent.value += sent
        self.commit_steps.add(steps)
        self.commit_took.add(took_s)
        self.conflicts.value += steps - fresh

    def failed(self, operation: str, error: BaseException, took_s: float) -> None:
        """Count a commit or a send that failed, or of which nothing is known."""
        labels = {"operation": operation, "error.type": error_type(error)}
        self._meters.histogram("messaging.client.operation.duration", **labels).add(took_s)
