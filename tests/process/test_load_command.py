"""`rolekit load` as a person runs it: against servers of its own, with exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.patience import patient
from tests.process.supervised import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

SCENARIO = """
for_s = {for_s}
seed = 3
timeout_s = 20
trace = 0.1

[entry]
kind = "http"
url = "http://127.0.0.1:{port}/mail?n=$n&run=$run"
method = "POST"
headers = {{ "X-Number" = "$n" }}
body = "mail $n"

[arrival]
law = "constant"
rate = {rate}
"""

CALLING = """
[entry]
kind = "python"
call = "nothing.here:it"

[arrival]
law = "constant"
rate = 1
"""


class Stub:
    """An HTTP server that answers at once, but stands still for `stall_s` of each period.

    With `each_s` it answers one request after the other, each in so long.
    """

    def __init__(self, *, period_s: float = 0, stall_s: float = 0, each_s: float = 0) -> None:
        self._period_s, self._stall_s, self._each_s = period_s, stall_s, each_s
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._end: Callable[[], object] = lambda: None
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(patient(10))
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._thread.join()

    async def _serve(self) -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        self._end = lambda: loop.call_soon_threadsafe(ended.set)
        self._turn = asyncio.Lock()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await ended.wait()
        server.close()
        await asyncio.sleep(0.1)  # what was just accepted has a task then, whose end closes it

    async def _connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split()[0])
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(size))
                if self._period_s:
                    into_s = time.monotonic() % self._period_s
                    left_s = self._stall_s - into_s
                    if left_s > 0:
                        await asyncio.sleep(left_s)
                if self._each_s:
                    async with self._turn:
                        await asyncio.sleep(self._each_s)
                writer.write(
                    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
                    b'Content-Length: 11\r\n\r\n{"id":"m1"}'
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
def stub() -> Generator[Stub]:
    with Stub() as made:
        yield made


def load(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder of its own."""
    (folder / "mail.toml").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "rolekit", "load", "mail.toml", "--report", ".", *options],
        cwd=folder, capture_output=True, text=True, timeout=patient(100), check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )  # fmt: skip


def written(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "mail.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.timeout(60)
def test_each_request_is_sent_once_and_the_report_says_so(tmp_path: Path, stub: Stub) -> None:
    done = load(tmp_path, SCENARIO.format(for_s=2, rate=100, port=stub.port))

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "PASSED"
    assert sorted(stub.bodies) == sorted(f"mail {n}".encode() for n in range(200))
    assert sum(b"\r\ntraceparent: 00-" in head for head in stub.heads) == 20
    result = written(tmp_path)
    assert (result["due"], result["answered"], result["failed"]) == (200, 200, 0)
    assert sum(second["due"] for second in result["seconds"]) == 200
    assert [mark for mark in result["slowest"] if mark["id"] != "m1"] == []


@pytest.mark.timeout(60)
def test_what_waits_behind_a_stall_is_charged_with_its_wait(tmp_path: Path) -> None:
    # Half of each second it stands still, so half of the requests wait, up to half a second.
    with Stub(period_s=1, stall_s=0.5) as stub:
        text = SCENARIO.format(for_s=4, rate=100, port=stub.port)
        done = load(tmp_path, text, "--objective", "p90=100ms")

    assert done.returncode == 1
    assert "FAILED     p90=100ms was missed" in done.stdout
    result = dict(written(tmp_path)["percentiles"])
    # Exactly 400 ms, and whatever a busy machine adds.
    assert result[90] >= 390_000


@pytest.mark.load
@pytest.mark.timeout(150)
def test_the_highest_rate_that_a_server_stands_is_found(tmp_path: Path) -> None:
    # One after the other in 20 ms is 50 a second; a busy machine makes it less.
    with Stub(each_s=0.02) as stub:
        text = SCENARIO.format(for_s=3, rate=20, port=stub.port)
        done = load(tmp_path, text, "--find-capacity", "--objective", "p99=300ms")

    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("capacity")]
    found = float(line.split()[1].removesuffix("/s"))
    assert 2 <= found <= 60
    trials = written(tmp_path)["trials"]
    assert max(one["rate"] for one in trials if not one["reasons"]) == pytest.approx(
        found, 0.05
    )
    assert any(one["reasons"] for one in trials)


@pytest.mark.load
@pytest.mark.timeout(120)
def test_stalls_of_a_second_are_within_a_tenth_of_the_arithmetic(tmp_path: Path) -> None:
    with Stub(period_s=10, stall_s=1) as stub:
        load(tmp_path, SCENARIO.format(for_s=40, rate=200, port=stub.port))

    # A tenth of the requests wait, evenly from 0 to 1 s: p99 is at nine tenths of that.
    result = dict(written(tmp_path)["percentiles"])
    assert result[99] == pytest.approx(900_000, rel=0.1)
    assert result[50] < 50_000


@pytest.mark.timeout(60)
def test_a_target_that_goes_away_ends_the_run_with_what_was_reached(tmp_path: Path) -> None:
    with Stub() as stub:
        (tmp_path / "mail.toml").write_text(
            SCENARIO.format(for_s=60, rate=50, port=stub.port), encoding="utf-8"
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "rolekit", "load", "mail.toml", "--report", "."],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        give_up = time.monotonic() + 30
        while not stub.bodies and time.monotonic() < give_up:
            time.sleep(0.05)  # a thread of ours serves it: there is nothing to await
    out, err = process.communicate(timeout=patient(50))

    assert process.returncode == 1, out + err
    assert "Nobody listened any more: stopped after" in out
    assert written(tmp_path)["answered"] > 0


@pytest.mark.timeout(60)
def test_nobody_at_all_is_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    done = load(tmp_path, SCENARIO.format(for_s=60, rate=50, port=port))

    assert done.returncode == 2
    assert "Not one request was answered: cannot connect" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("for_s = 1\n[entry]\n", (), "mail.toml, line 2, entry: "),
        (SCENARIO + "[[chaos]]\nat_s = 1\nkill = 'A'\n", (), "kill -9 A: no app runs here"),
        (
            SCENARIO + "[[chaos]]\nat_s = 1\nrestart = 'broker'\n",
            (),
            "restart the broker: the broker is not this test's own",
        ),
        (SCENARIO, ("--objective", "p99=fast"), "'p99=fast' is not an objective"),
        (SCENARIO, ("--find-capacity",), "there is none"),
        (
            CALLING,
            ("--set", "database=postgresql://127.0.0.1:1/x", "--wait", "0"),
            "127.0.0.1:1",
        ),
    ],
)
@pytest.mark.timeout(60)
def test_what_cannot_be_is_refused_before_anything_is_sent(
    tmp_path: Path, text: str, options: tuple[str, ...], said: str
) -> None:
    done = load(tmp_path, text.format(for_s=1, rate=1, port=9), *options)

    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


ECHO = """
from rolekit import App, Message, Reply, WorkerRole, handle

class Ask(Message):
    number: int

class Answer(Reply):
    number: int

class Echo(WorkerRole):
    instances = 2

    @handle
    async def answer(self, ask: Ask) -> Answer:
        return Answer(number=ask.number)

app = App("echo", roles=[Echo])
"""
DIRECT = """
name = "mail"
for_s = 4
settle_s = 30
trace = 0.1

[entry]
kind = "message"
type = "Ask"
body = '{ "number": $n }'
answer = "Answer"

[arrival]
law = "poisson"
rate = 40

[[chaos]]
at_s = 1
command = ["sleep", "20"]

[[chaos]]
at_s = 2
kill = "Echo"

[[chaos]]
at_s = 3
cut = "database"
"""


@pytest.mark.timeout(100)
def test_messages_of_a_running_app_are_asked_while_an_instance_is_killed(
    tmp_path: Path,
) -> None:
    (tmp_path / "echo_app.py").write_text(ECHO, encoding="utf-8")
    (tmp_path / "mail.toml").write_text(DIRECT, encoding="utf-8")
    environment = {**os.environ, "ROLEKIT_APP": "echo_app:app", "ROLEKIT_HOME": str(tmp_path)}
    rolekit = [sys.executable, "-m", "rolekit"]
    with (tmp_path / "up.log").open("wb") as log:
        up = subprocess.Popen(
            [*rolekit, "up"], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        ready = [*rolekit, "ps", "--ready"]
        eventually(
            lambda: (
                subprocess.run(ready, cwd=tmp_path, env=environment, check=False).returncode
                == 0
            ),
            within_s=40,
        )
        done = subprocess.run(
            [*rolekit, "load", "mail.toml", "--report", "."], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        up.terminate()
        up.wait(patient(30))

    assert done.returncode == 0, done.stdout + done.stderr
    result = written(tmp_path)
    assert result["answered"] == result["due"] > 100
    outlasts, killed, cut = (mark["text"] for mark in result["marks"])
    assert outlasts == "sleep 20, not over at the end"
    assert killed.startswith("kill -9 Echo/")
    assert int(cut.removeprefix("cut sessions with the database: ")) >= 1
    assert [mark["problem"] for mark in result["marks"]] == [""] * 3
    assert all(mark["took_s"] > 0 for mark in result["marks"])
    assert re.fullmatch(r"\d+(\.\d+)+", result["versions"]["PostgreSQL"])
    assert {role["role"] for seen in result["seen"] for role in seen["roles"]} >= {"Echo"}
    assert result["unaccounted"] == {}
    # Each tenth request began a trace of its own, and its way to the answer is told.
    assert result["traced"]["traces"] >= result["due"] * 0.08
    assert {place["where"] for place in result["traced"]["places"]} == {"Echo.answer"}
    assert all(one["id"] or one["trace"] or not one["end"] for one in result["slowest"])
