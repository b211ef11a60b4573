"""What every contender uses to read its job, to count, and to report one line of JSON.

Only the standard library: peers run in an environment without rolekit.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

JOB = "BENCH_JOB"
"""Environment variable that carries the job, as JSON."""

BODY_BYTES = 256
WARM = 20
"""Ages that count for no percentile: those of the first tenth of a second at 200/s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of one contender.

    Attributes:
        case: What to do; each contender knows some.
        count: Messages.
        broker: URL of the broker; empty for the Postgres transport.
        database: URL of an empty database.
        redis: URL of a Redis, where one is at hand.
        queue_type: `classic` or `quorum`.
        window: Deliveries in hand, or sends in flight.
        rate: Messages/s, where a case has a rate.
        servers: Process ids by name, whose CPU time is noted beside the contender's own.
        options: Whatever else a case wants.
    """

    case: str
    count: int
    broker: str = ""
    database: str = ""
    redis: str = ""
    queue_type: str = "classic"
    window: int = 200
    rate: float = 0
    servers: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> str:
        """Return it as the environment carries it."""
        return json.dumps(asdict(self))


def job() -> Job:
    """Return the job of this process."""
    return Job(**json.loads(os.environ[JOB]))


def fields(number: int) -> dict[str, Any]:
    """Return what a message says: 256 bytes as compact JSON, whatever its number."""
    found: dict[str, Any] = {"number": number, "fill": ""}
    room = BODY_BYTES - len(json.dumps(found, separators=(",", ":")))
    return {"number": number, "fill": "x" * room}


def body(number: int) -> bytes:
    """Return a message as peers without a serialiser of their own send it."""
    return json.dumps(fields(number), separators=(",", ":")).encode()


class Meter:
    """Times from `start`, or from the first hit, to the last of `wanted` hits.

    Hits may come from threads.
    """

    def __init__(
        self, job: Job, done: Callable[[], None] = lambda: None, *, wanted: int = 0
    ) -> None:
        self.wanted = wanted or job.count
        self.seconds = 0.0
        self.cpu_s = 0.0
        self.servers: dict[str, float] = {}
        self.done = done
        self.on_begin: Callable[[], object] = lambda: None
        self.on_end: Callable[[], object] = lambda: None
        self._job = job
        self._next = itertools.count(1).__next__
        self._began: tuple[float, float, dict[str, float]] | None = None

    def begin(self) -> None:
        """Begin now instead of at the first hit."""
        self.on_begin()
        servers = self._server_cpu()
        self._began = (time.perf_counter(), time.process_time(), servers)

    def start(self) -> None:
        """Begin, unless that was done: for what comes before the first hit."""
        if self._began is None:
            self.begin()

    def hit(self) -> None:
        """Count one."""
        number = self._next()
        if number == 1:
            self.start()
        if number == self.wanted:
            self.end()
            self.done()

    def end(self) -> None:
        """End now."""
        assert self._began is not None
        begin_s, begin_cpu_s, servers = self._began
        self.seconds = time.perf_counter() - begin_s
        self.cpu_s = time.process_time() - begin_cpu_s
        self.servers = {
            name: used_s - servers[name] for name, used_s in self._server_cpu().items()
        }
        self.on_end()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure what is inside."""
        self.begin()
        yield
        self.end()

    def report(self, **details: object) -> None:
        """Print what was measured."""
        servers = {f"{name}_cpu_s": used_s for name, used_s in self.servers.items()}
        report(self.wanted, self.seconds, self.cpu_s, **servers, **details)

    def _server_cpu(self) -> dict[str, float]:
        return {name: cpu_of(pid) for name, pid in self._job.servers.items()}


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process and of its children, living and reaped."""
    used = _ticks(pid, 4)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):
            used += _ticks(int(child), 2)
    return used / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int, kinds: int) -> int:
    """Add up user, system, and those of reaped children.

    Source: proc(5), fields 14 to 17 of stat; the name may hold anything, so count after it.
    """
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, numbers[11 : 11 + kinds]))


def report(messages: int, seconds: float, cpu_s: float, **details: object) -> None:
    """Print one line of JSON."""
    line = {"messages": messages, "seconds": seconds, "cpu_s": cpu_s, "details": details}
    print(json.dumps(line), file=sys.__stdout__, flush=True)


def quantiles(samples: list[float]) -> dict[str, float]:
    """Return the age of the first, and the 50th and 99th percentile of those after `WARM`.

    Percentiles by nearest rank. The first few wait until a client has connected and has
    imported what it needs; that is worth knowing, but no matter of 1 in 100.
    """
    ordered = sorted(samples[WARM:])
    shares = {
        f"p{share}": ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]
        for share in (50, 99)
    }
    return {"first": samples[0], **shares}


async def open_loop(job: Job, send: Callable[[int, float], Awaitable[object]]) -> None:
    """Send `count` messages at `rate`, each when it is due, however the others fare.

    `send` is given the number and the time it was due, on the clock of `time.perf_counter`:
    an age counted from there includes what a late start cost.
    """
    begin = time.perf_counter() + 0.05
    async with asyncio.TaskGroup() as tasks:
        for number in range(job.count):
            due_s = begin + number / job.rate
            await asyncio.sleep(max(0, due_s - time.perf_counter()))
            tasks.create_task(_awaited(send(number, due_s)))


async def _awaited(sent: Awaitable[object]) -> None:
    """Await: a task takes coroutines only, and some clients give futures."""
    await sent


def leave() -> None:
    """End this process at once: what it holds in the broker is thrown away anyway."""
    sys.stdout.flush()
    os._exit(0)
