"""What a guest costs above its program: `python -m benchmarks.own.guests [ROUNDS]`.

Each line is one program in one host, in turns with the same work by bare means: posix_spawn
and pipes, or pipes to a program that stays. "rested" calls a guest that has had time to be
made ready, as between messages; "in a row" calls again at once.

Where a container engine answers, guests of a `Container` are measured too, in an image that
ROLEKIT_BENCH_IMAGE names (perl must be in it), against the same program outside. That of
`Exec` is started before its call, so "in a row" says what a container costs.
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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from rolekit import VMRole
from rolekit.guest import Container, Exec, Frames, Guest, Http, Lines, Process, Sandbox
from rolekit.guest.crew import guests_running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROUNDS = 200
REST_S, CONTAINER_REST_S = 0.05, 2.0
EXEC_BAR_MS, TALK_BAR_MS, HTTP_BAR_MS = 3.0, 0.2, 1.0
IMAGE = os.environ.get("ROLEKIT_BENCH_IMAGE", "")
ENV = {"PATH": os.defpath, "LANG": "C.UTF-8"}
TEXT = b"".join(b"line %d\n" % (n * 7919 % 100) for n in range(100))
PROGRAMS = {
    "true": (("/bin/true",), b""),
    "perl": (("/usr/bin/perl", "-e", "1"), b""),
    "sort": (("/usr/bin/sort",), TEXT),
}
LINES = ("/usr/bin/perl", "-pe", "BEGIN { $| = 1 }")
FRAMES = (
    "/usr/bin/perl",
    "-e",
    "$| = 1; while (read STDIN, $h, 4) { read STDIN, $d, unpack 'N', $h; print $h, $d }",
)

HTTP = r"""
use Socket; my $at = shift;
if ($at =~ m{^/}) { socket L, PF_UNIX, SOCK_STREAM, 0; bind L, sockaddr_un($at) or die }
else { socket L, PF_INET, SOCK_STREAM, 0; setsockopt L, SOL_SOCKET, SO_REUSEADDR, 1;
       bind L, sockaddr_in($at, INADDR_LOOPBACK) or die }
listen L, 9;
while (accept C, L) {
    next if fork; select C; $| = 1;
    while (defined($_ = <C>)) {
        while (defined($_ = <C>) && /\S/) {}
        print "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
    }
    exit;
}
"""
"""A connection is a process; it answers one request after another."""


class _Asks(Protocol):
    async def ask(self, question: bytes, /) -> bytes: ...


@dataclass(slots=True)
class Figure:
    """Milliseconds by bare means and through a guest, in turns."""

    bare: list[float]
    guest: list[float]

    def line(self, name: str, bar_ms: float) -> str:
        """Say both medians, and what is between them."""
        bare, guest = statistics.median(self.bare), statistics.median(self.guest)
        p90 = statistics.quantiles(self.guest, n=10)[-1]
        return (
            f"{name:<32} bare {bare:7.3f}  guest {guest:7.3f}  p90 {p90:7.3f}  "
            f"above {guest - bare:7.3f} ms  (bar {bar_ms:g})"
        )


def spawned(command: tuple[str, ...], stdin: bytes) -> bytes:
    """Run a program by the shortest way there is: its output, when it is gone."""
    ends = [os.pipe() for _ in range(3)]
    (r0, w0), (r1, w1), (r2, w2) = ends
    actions: list[tuple[int, int, int] | tuple[int, int]] = [
        (os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((r0, w1, w2))
    ]
    pid = os.posix_spawn(command[0], command, ENV, file_actions=actions)
    for fd in (r0, w1, w2):
        os.close(fd)
    os.write(w0, stdin)
    os.close(w0)
    out = b""
    while data := os.read(r1, 1 << 16):
        out += data
    os.close(r1)
    os.close(r2)
    os.waitpid(pid, 0)
    return out


async def compared(
    bare: Callable[[], bytes], guest: Callable[[], Awaitable[bytes]], rounds: int, rest_s: float
) -> Figure:
    """Measure both in turns."""
    figure = Figure([], [])
    for _ in range(rounds):
        await asyncio.sleep(rest_s)
        begun = time.perf_counter()
        wanted = bare()
        figure.bare.append((time.perf_counter() - begun) * 1000)
        await asyncio.sleep(rest_s)
        begun = time.perf_counter()
        got = await guest()
        figure.guest.append((time.perf_counter() - begun) * 1000)
        assert got == wanted, (got, wanted)
    return figure


async def _exec(
    name: str, host: Process | Sandbox | Container, rounds: int, *, rests_s: float = REST_S
) -> None:
    command, stdin = PROGRAMS[name]

    class Role(VMRole):
        program = Guest(Exec(*command), host=host)

    role = Role()

    async def run() -> bytes:
        return (await role.program.run(stdin)).stdout

    async with guests_running(role):
        for rest_s, how in ((rests_s, "rested"), (0, "in a row")):
            figure = await compared(lambda: spawned(command, stdin), run, rounds, rest_s)
            print(figure.line(f"Exec {name}, {type(host).__name__}, {how}", EXEC_BAR_MS))


async def _talk(
    kind: type[Lines | Frames], host: Process | Sandbox | Container, rounds: int
) -> None:
    command = LINES if kind is Lines else FRAMES

    class Role(VMRole):
        lines = Guest(Lines(*LINES), host=host)
        frames = Guest(Frames(*FRAMES), host=host)

    role = Role()
    question = b"x" * 100
    sent = question + b"\n" if kind is Lines else len(question).to_bytes(4, "big") + question
    with subprocess.Popen(  # noqa: ASYNC220, S603 - it is measured
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=ENV
    ) as popen:
        stdin, stdout = popen.stdin, popen.stdout
        assert stdin is not None
        assert stdout is not None

        def bare() -> bytes:
            stdin.write(sent)
            got = b""
            while len(got) < len(sent):
                got += stdout.read(1 << 16) or b""
            return got[4:] if kind is Frames else got[:-1]

        async with guests_running(role):
            asks: _Asks = role.lines if kind is Lines else role.frames
            figure = await compared(bare, lambda: asks.ask(question), rounds * 5, 0)
        stdin.close()
    print(figure.line(f"{kind.__name__}, {type(host).__name__}", TALK_BAR_MS))


async def _http(host: Process | Sandbox | Container, rounds: int) -> None:
    """Compare with a client of the standard library, on a connection that it keeps."""

    class Role(VMRole):
        web = Guest(Http("perl", "-e", HTTP, "{port}"), host=host)

    role = Role()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ("/usr/bin/perl", "-e", HTTP, str(port))
    with subprocess.Popen(command, env=ENV, start_new_session=True) as popen:  # noqa: ASYNC220, S603
        try:
            client = http.client.HTTPConnection("127.0.0.1", port)
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    client.connect()
                    break

            def bare() -> bytes:
                client.request("GET", "/")
                return client.getresponse().read()

            async def guest() -> bytes:
                return (await role.web.request("GET", "/")).body

            async with guests_running(role):
                figure = await compared(bare, guest, rounds * 5, 0)
            client.close()
        finally:
            os.killpg(popen.pid, signal.SIGKILL)
    print(figure.line(f"Http, {type(host).__name__}", HTTP_BAR_MS))


async def main(rounds: int) -> None:
    """Measure all."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    for host in (Process(), Sandbox()):
        for name in PROGRAMS:
            await _exec(name, host, rounds)
        for kind in (Lines, Frames):
            await _talk(kind, host, rounds)
        await _http(host, rounds)
    if IMAGE:
        container = Container(image=IMAGE)
        await _exec("perl", container, max(1, rounds // 10), rests_s=CONTAINER_REST_S)
        for kind in (Lines, Frames):
            await _talk(kind, container, rounds)
        await _http(container, rounds)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else ROUNDS))
