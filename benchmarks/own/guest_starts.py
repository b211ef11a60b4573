"""How long a pool takes to start, and a place in it to have its next guest.

    python -m benchmarks.own.guest_starts [ROUNDS]

"start" is from nothing until all guests of a pool answer: keepers and their cgroups, scratch
folders, sandboxes or containers, programs, the first health check. "recycle" is a call to a
guest that is replaced after each: it waits until the last one is gone with all that it wrote,
and the next one answers. Both in turns with the program alone: started, asked once, killed.

Containers are measured too where ROLEKIT_BENCH_IMAGE names an image with perl in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import structlog

from benchmarks.own.guests import (
    CONTAINER_REST_S,
    ENV,
    FRAMES,
    HTTP,
    IMAGE,
    LINES,
    PROGRAMS,
    Figure,
    spawned,
)
from rolekit import VMRole
from rolekit.guest import Container, Exec, Frames, Guest, Http, Limits, Lines, Process, Sandbox
from rolekit.guest.crew import guests_running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rolekit.guest import Speaks

ROUNDS, CONTAINER_ROUNDS = 20, 5
POOLS = (1, 4)
ONCE = Limits(uses=1)
QUESTION = b"x" * 100
TRUE, NOTHING = PROGRAMS["true"]


def talked(command: tuple[str, ...], sent: bytes) -> None:
    """Start a program that talks, ask it once, and end it."""
    with subprocess.Popen(  # noqa: S603 - it is measured
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=ENV
    ) as popen:
        assert popen.stdin is not None
        assert popen.stdout is not None
        popen.stdin.write(sent)
        got = b""
        while len(got) < len(sent):
            got += popen.stdout.read(1 << 16)
        popen.kill()


def served() -> None:
    """Start a program that listens, ask it once, and end it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ("/usr/bin/perl", "-e", HTTP, str(port))
    with subprocess.Popen(command, env=ENV, start_new_session=True) as popen:  # noqa: S603
        client = http.client.HTTPConnection("127.0.0.1", port)
        while client.sock is None:
            with contextlib.suppress(ConnectionRefusedError):
                client.connect()
        client.request("GET", "/")
        client.getresponse().read()
        client.close()
        os.killpg(popen.pid, signal.SIGKILL)


CASES: dict[
    str, tuple[Speaks[Any], Callable[[], object], Callable[[Any], Awaitable[object]]]
] = {
    "Exec": (Exec(*TRUE), lambda: spawned(TRUE, NOTHING), lambda guest: guest.run()),
    "Lines": (
        Lines(*LINES),
        lambda: talked(LINES, QUESTION + b"\n"),
        lambda guest: guest.ask(QUESTION),
    ),
    "Frames": (
        Frames(*FRAMES),
        lambda: talked(FRAMES, len(QUESTION).to_bytes(4, "big") + QUESTION),
        lambda guest: guest.ask(QUESTION),
    ),
    "Http": (
        Http("perl", "-e", HTTP, "{port}"),
        served,
        lambda guest: guest.request("GET", "/"),
    ),
}
"""What a guest speaks, the same by bare means, and a call."""


def role_with(
    speaks: Speaks[Any], host: Process | Sandbox | Container, limits: Limits, pool: int
) -> Any:  # noqa: ANN401 - its guest has the methods of its protocol
    """Return a role with one pool."""

    class Role(VMRole):
        guest = Guest(speaks, host=host, limits=limits, pool=pool)

    return Role()


async def starts(
    name: str, host: Process | Sandbox | Container, pool: int, rounds: int
) -> None:
    """Measure the start of a pool, and its end."""
    speaks, _, call = CASES[name]
    took: list[float] = []
    ended: list[float] = []
    for _ in range(rounds):
        role = role_with(speaks, host, Limits(), pool)
        begun = time.perf_counter()
        async with guests_running(role):
            took.append((time.perf_counter() - begun) * 1000)
            await call(role.guest)
            begun = time.perf_counter()
        ended.append((time.perf_counter() - begun) * 1000)
    print(
        f"{name}, {type(host).__name__}, a pool of {pool}: ready in "
        f"{statistics.median(took):7.1f} ms (at most {max(took):.0f}), "
        f"gone in {statistics.median(ended):7.1f} ms",
        flush=True,
    )


async def recycles(
    name: str, host: Process | Sandbox | Container, rounds: int, rest_s: float
) -> None:
    """Measure a call that waits for the next guest, in turns with the bare program."""
    speaks, bare, call = CASES[name]
    figure = Figure([], [])
    role = role_with(speaks, host, ONCE, 1)
    async with guests_running(role):
        for _ in range(rounds):
            begun = time.perf_counter()
            await asyncio.to_thread(bare)
            figure.bare.append((time.perf_counter() - begun) * 1000)
            await asyncio.sleep(rest_s)  # the one that is spent is replaced meanwhile
            await call(role.guest)
            begun = time.perf_counter()
            await call(role.guest)
            figure.guest.append((time.perf_counter() - begun) * 1000)
    bare_ms, guest_ms = statistics.median(figure.bare), statistics.median(figure.guest)
    print(
        f"{name}, {type(host).__name__}, recycled: {guest_ms:7.1f} ms (at most "
        f"{max(figure.guest):.0f}); the program alone {bare_ms:7.1f}, "
        f"above {guest_ms - bare_ms:7.1f} ms",
        flush=True,
    )


async def main(rounds: int) -> None:
    """Measure all."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    hosts: list[tuple[Process | Sandbox | Container, int, float]] = [
        (Process(), rounds, 0.1),
        (Sandbox(), rounds, 0.1),
    ]
    if IMAGE:
        hosts.append((Container(image=IMAGE), CONTAINER_ROUNDS, CONTAINER_REST_S))
    for host, times, rest_s in hosts:
        for name in CASES:
            for pool in POOLS:
                await starts(name, host, pool, times)
            await recycles(name, host, times, rest_s)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else ROUNDS))
