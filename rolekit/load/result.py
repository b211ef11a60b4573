"""What a run was: recorded as it goes, then one value that file and page are made of."""

from __future__ import annotations

import heapq
import platform
import socket
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec

from rolekit.load import histogram
from rolekit.load.histogram import Histogram
from rolekit.load.scenario import Scenario
from rolekit.load.traced import Traced
from rolekit.supervisor import linux

if TYPE_CHECKING:
    import datetime as dt

    from rolekit.load.client import Told

_US = 1_000_000
_SLOWEST = 20
PERCENTILES = (
    0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999, 100,
)  # fmt: skip


class Second(msgspec.Struct, kw_only=True):
    """One second of the run.

    Attributes:
        due: Requests that were due in it.
        answered, failed: Requests that ended in it, as wanted and otherwise.
        p50_us, p90_us, p99_us, max_us: Of those due in it; None: nothing was.
    """

    due: int = 0
    answered: int = 0
    failed: int = 0
    p50_us: int | None = None
    p90_us: int | None = None
    p99_us: int | None = None
    max_us: int | None = None


class RoleSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A role at one moment; as `rolekit ps` shows it."""

    role: str
    running: int
    waiting: int | None
    in_hand: int
    oldest_s: float | None
    dead: int | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The app at one moment.

    Attributes:
        at_s: Seconds from the start.
    """

    at_s: float
    roles: tuple[RoleSeen, ...]


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done to the app.

    Attributes:
        took_s: How long it took; a restart is over when what was restarted is there again.
        problem: Why it could not be done; empty: it was.
    """

    at_s: float
    text: str
    took_s: float = 0
    problem: str = ""


class Slow(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One of the slowest requests."""

    took_us: int
    due_us: int
    id: str = ""
    trace: str = ""
    end: str = ""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """An objective beside what was measured, in the same unit."""

    text: str
    measured: str
    is_met: bool


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a check of the app's own found.

    Attributes:
        lost, repeated, out_of_order: How many; anything but 0 fails the run.
        notes: For people, one sentence each.
    """

    lost: int = 0
    repeated: int = 0
    out_of_order: int = 0
    notes: tuple[str, ...] = ()


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """What a check is given.

    Attributes:
        ids: That the app gave to requests which were answered as wanted, by their numbers.
        requests: How many were sent: numbers are below that.
    """

    run: str
    requests: int
    ids: dict[int, str]
    app: str = ""
    database: str = ""
    broker: str = ""
    scenario: Scenario


class Result(msgspec.Struct, kw_only=True):
    """A run, whole.

    Attributes:
        scenario: Its fields.
        machine: What it ran on, by name.
        versions: Of what took part.
        due, answered, failed, unanswered: Requests after the warm-up.
        rate: Answers per second after the warm-up.
        percentiles: Percentile and latency, ascending; failed requests count with the time
            until they failed.
        histogram: The same, as HdrHistogram (V2, compressed, base64), microseconds.
        ends: How requests failed, and how many did so.
        late_us: The longest that a client was behind its schedule by itself.
        traced: What the app's traces say; None: they were not read.
        unaccounted: By role, what came, came to nothing and is not in hand at rest; None:
            nobody said.
        reasons: Why the verdict is no; empty: it is yes.
        warnings: What to know before believing the figures.
    """

    name: str
    run: str
    started_at: str
    scenario: Any
    machine: dict[str, str]
    versions: dict[str, str]
    due: int = 0
    answered: int = 0
    failed: int = 0
    unanswered: int = 0
    rate: float = 0
    mean_us: float = 0
    percentiles: list[tuple[float, int]] = []
    histogram: str = ""
    seconds: list[Second] = []
    seen: list[Seen] = []
    marks: list[Mark] = []
    ends: dict[str, int] = {}
    slowest: list[Slow] = []
    late_us: int = 0
    objectives: list[Judged] = []
    checked: Checked | None = None
    traced: Traced | None = None
    unaccounted: dict[str, int] | None = None
    reasons: list[str] = []
    warnings: list[str] = []

    @property
    def is_passed(self) -> bool:
        """The verdict."""
        return not self.reasons

    def at(self, percentile: float) -> int:
        """Return a latency in microseconds."""
        return dict(self.percentiles)[percentile]


@dataclass(slots=True)
class Recorder:
    """Takes what the clients tell."""

    scenario: Scenario
    total: Histogram = field(default_factory=lambda: histogram.make(3))
    seconds: list[Second] = field(default_factory=list[Second])
    by_second: list[Histogram] = field(default_factory=list[Histogram])
    ends: Counter[str] = field(default_factory=Counter[str])
    slowest: list[Slow] = field(default_factory=list[Slow])
    ids: dict[int, str] = field(default_factory=dict[int, str])
    traces: set[str] = field(default_factory=set[str])
    seen: list[Seen] = field(default_factory=list[Seen])
    marks: list[Mark] = field(default_factory=list[Mark])
    requests: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    late_us: int = 0
    under_way: dict[int, int] = field(default_factory=dict[int, int])

    def take(self, client: int, told: Told) -> None:
        """Take one line of one client."""
        names = {place: (id_, trace) for place, _, id_, trace in told.ids}
        self.ids.update((number, id_) for _, number, id_, _ in told.ids if id_)
        self.traces.update(trace for _, _, _, trace in told.ids if trace)
        self.refused += told.refused
        self.late_us = max(self.late_us, told.late_us)
        self.under_way[client] = told.under_way
        for place, (due_us, took_us, end) in enumerate(
            zip(told.due_us, told.took_us, told.end, strict=True)
        ):
            id_, trace = names.get(place, ("", ""))
            self._one(due_us, took_us, told.ways[end - 1] if end else "", (id_, trace))

    def _one(self, due_us: int, took_us: int, end: str, names: tuple[str, str]) -> None:
        self.requests += 1
        due, ended = self._second(due_us // _US), self._second((due_us + took_us) // _US)
        due.due += 1
        if end:
            ended.failed += 1
            self.ends[end] += 1
        else:
            ended.answered += 1
        histogram.record(self.by_second[due_us // _US], took_us)
        if due_us < self.scenario.warm_up_s * _US:
            return
        self.failed += bool(end)
        self.answered += not end
        histogram.record(self.total, took_us)
        slow = Slow(due_us=due_us, took_us=took_us, id=names[0], trace=names[1], end=end)
        if len(self.slowest) < _SLOWEST:
            heapq.heappush(self.slowest, slow)
        elif self.slowest[0].took_us < took_us:
            heapq.heapreplace(self.slowest, slow)

    def _second(self, number: int) -> Second:
        while len(self.seconds) <= number:
            self.seconds.append(Second())
            self.by_second.append(histogram.make(2))
        return self.seconds[number]

    def result(
        self, run: str, started_at: dt.datetime, database: str, broker: str = ""
    ) -> Result:
        """Return what was measured, not judged yet."""
        for second, latencies in zip(self.seconds, self.by_second, strict=True):
            if latencies.total_count:
                second.p50_us, second.p90_us, second.p99_us = (
                    latencies.get_value_at_percentile(share) for share in (50, 90, 99)
                )
                second.max_us = latencies.get_max_value()
        measured_s = self.scenario.for_s - self.scenario.warm_up_s
        has_any = bool(self.total.total_count)
        first, last = int(self.scenario.warm_up_s), int(self.scenario.for_s)
        answered = sum(second.answered for second in self.seconds[first:last])
        return Result(
            name=self.scenario.name or "load",
            run=run,
            started_at=started_at.isoformat(timespec="seconds"),
            scenario=msgspec.to_builtins(self.scenario),
            machine=machine(),
            versions=versions(database, broker),
            due=self.answered + self.failed,
            answered=self.answered,
            failed=self.failed,
            unanswered=sum(self.under_way.values()),
            rate=answered / measured_s,
            mean_us=self.total.get_mean_value() if has_any else 0,
            percentiles=[
                (share, self.total.get_value_at_percentile(share)) for share in PERCENTILES
            ]
            if has_any
            else [],
            histogram=self.total.encode().decode() if has_any else "",
            seconds=self.seconds,
            seen=self.seen,
            marks=sorted(self.marks, key=lambda mark: mark.at_s),
            ends=dict(self.ends.most_common()),
            slowest=sorted(self.slowest, reverse=True),
            late_us=self.late_us,
        )


def machine() -> dict[str, str]:
    """Say what this machine is."""
    found = {
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _first_value("/proc/cpuinfo", "model name") or platform.machine(),
        "processors": str(linux.cpus()),
    }
    if kib := _first_value("/proc/meminfo", "MemTotal").removesuffix("kB").strip():
        found["memory"] = f"{int(kib) / (1 << 20):.1f} GiB"
    return found


def versions(database: str, broker: str = "") -> dict[str, str]:
    """Say which versions took part, and where state and queues were."""
    found = {"rolekit": version("rolekit"), "Python": platform.python_version()}
    if database:
        found["database"] = database
        found["broker"] = broker or "the database"
        found["asyncpg"] = version("asyncpg")
    if broker:
        found["aio-pika"] = version("aio-pika")
    return found


def _first_value(path: str, name: str) -> str:
    try:
        with open(path, encoding="utf-8") as lines:  # noqa: PTH123 - a name of the kernel's
            for line in lines:
                if line.startswith(name):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""
