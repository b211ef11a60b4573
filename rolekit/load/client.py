"""A client process: sends its share of the requests when they are due.

It is told what to do by a line on standard input, says `Ready` on standard output, waits for
the line that starts it, and then tells what became of its requests, a line each tenth of a
second, until a line with nothing under way and nothing to come.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from rolekit import config as configuration
from rolekit.errors import ConfigError, RolekitError
from rolekit.garbage import pass_over_what_is_there
from rolekit.load.arrivals import due_times
from rolekit.load.entries import Failure, Refused, Send, now, open_entry
from rolekit.load.scenario import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOLD_EVERY_S = 0.1
_AT_ONCE = 64
_US = 1_000_000


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is to do; the first line it reads.

    Attributes:
        sets: Settings of the command line, as `--set` has them.
    """

    run: Run
    sets: tuple[str, ...] = ()


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The second line: when the first second begins, on the monotonic clock."""

    at: float


class Told(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of requests, as columns: the same place in each is the same request.

    Attributes:
        due_us: When each was due, from the start.
        took_us: From then to its end.
        end: 0: answered as wanted; else a place in `ways`, counted from 1.
        ways: All ends seen so far that were not wanted.
        refused: How many found nobody listening.
        late_us: The longest that this client was behind its schedule by itself.
        under_way: Requests that are not answered yet.
        ids: Of those that have one: place, number of the request, id, trace.
        is_ready, is_over: Before the first request is due, after the last has ended.
        problem: Why it cannot work: what, and what to do.
    """

    due_us: list[int] = msgspec.field(default_factory=list[int])
    took_us: list[int] = msgspec.field(default_factory=list[int])
    end: list[int] = msgspec.field(default_factory=list[int])
    ways: list[str] = msgspec.field(default_factory=list[str])
    ids: list[tuple[int, int, str, str]] = msgspec.field(
        default_factory=list[tuple[int, int, str, str]]
    )
    refused: int = 0
    late_us: int = 0
    under_way: int = 0
    is_ready: bool = False
    is_over: bool = False
    problem: tuple[str, str] | None = None


@dataclass(slots=True)
class _Client:
    run: Run
    send: Send
    start: float
    told: Told = field(default_factory=Told)
    ways: dict[str, int] = field(default_factory=dict[str, int])
    under_way: int = 0

    async def work(self) -> None:
        """Send each request of ours when it is due; end when all have ended."""
        scenario = self.run.scenario
        room = asyncio.Semaphore(max(1, scenario.in_flight // scenario.clients))
        async with asyncio.TaskGroup() as tasks:
            since = 0
            for number, due_s in self._ours():
                due = self.start + due_s
                late = now() - due
                if late < 0:
                    await asyncio.sleep(-late)
                    since, late = 0, now() - due
                elif (since := since + 1) % _AT_ONCE == 0:
                    await asyncio.sleep(
                        0
                    )  # behind, or a burst: answers are to be seen all the same
                if not room.locked():
                    self.told.late_us = max(self.told.late_us, int(late * _US))
                await room.acquire()
                self.under_way += 1
                task = tasks.create_task(self._one(number, due_s, due))
                task.add_done_callback(lambda _: room.release())

    def _ours(self) -> Iterator[tuple[int, float]]:
        scenario = self.run.scenario
        for number, due_s in enumerate(
            due_times(scenario.arrival, scenario.for_s, scenario.seed)
        ):
            if number % scenario.clients == self.run.client:
                yield number, due_s

    async def _one(self, number: int, due_s: float, due: float) -> None:
        end = 0
        try:
            sent = await asyncio.wait_for(self.send(number), self.run.scenario.timeout_s)
            if sent.id or sent.trace:
                self.told.ids.append((len(self.told.end), number, sent.id, sent.trace))
        except (Failure, TimeoutError) as failure:
            self.told.refused += isinstance(failure, Refused)
            end = self._way(str(failure) or "no answer in time")
        finally:
            self.under_way -= 1
        self.told.due_us.append(int(due_s * _US))
        self.told.took_us.append(int((now() - due) * _US))
        self.told.end.append(end)

    def _way(self, text: str) -> int:
        if text not in self.ways:
            self.ways[text] = len(self.ways) + 1
        return self.ways[text]

    def take(self, *, is_over: bool = False) -> Told:
        """Return what there is to tell, and begin anew."""
        told, self.told = self.told, Told()
        told.ways, told.under_way, told.is_over = list(self.ways), self.under_way, is_over
        return told


async def _main() -> None:
    order = msgspec.json.decode(await _line(), type=Order)
    config = configuration.load(os.environ, settings=order.sets)
    try:
        async with open_entry(order.run, config) as send:
            _tell(Told(is_ready=True))
            start = msgspec.json.decode(await _line(), type=Start)
            await _load(_Client(order.run, send, start.at))
    except ConfigError as error:
        _tell(Told(problem=(error.what, error.fix)))
    except RolekitError as error:
        _tell(Told(problem=(error.what, error.fix)))


async def _load(client: _Client) -> None:
    pass_over_what_is_there()
    work = asyncio.ensure_future(client.work())
    while not work.done():
        await asyncio.wait((work,), timeout=_TOLD_EVERY_S)
        _tell(client.take(is_over=False))
    work.result()
    _tell(client.take(is_over=True))


async def _line() -> bytes:
    return await asyncio.to_thread(sys.stdin.buffer.readline)


def _tell(told: Told) -> None:
    # The driver reads all the time; a full pipe would hold up the requests, so it has to.
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(_main())
