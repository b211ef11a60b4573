"""`rolekit why` and `rolekit trace` on real messages, each delayed by another cause.

No collector is there: what is told comes from the traces that are kept in Postgres.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from rolekit.config import Config
from rolekit.database import Database
from rolekit.store.postgres.traces import TraceStore
from rolekit.wiring import open_client
from tests.process.board import NAME, VARIABLES, labels_in, queries, series_of
from tests.process.supervised import ROOT, eventually
from tests.process.why_app import Deadly, Flaky, Heavy, Item, Queued, Whole, app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rolekit import Message
    from rolekit.model.span import Span
    from rolekit.testing.plugin import DatabaseServer

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]

APP = "tests.process.why_app:app"


@pytest.fixture(scope="module")
def config(
    rolekit_database_server: DatabaseServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Config]:
    """Run the app, all of whose messages are traced; give the settings of its clients."""
    home = tmp_path_factory.mktemp("home")
    with rolekit_database_server.database() as database:
        said = home / "said"
        with said.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "rolekit", "up", APP],
                cwd=ROOT,
                env={
                    **os.environ,
                    "ROLEKIT_HOME": str(home),
                    "ROLEKIT_DATABASE": database,
                    "ROLEKIT_TRACES": "1",
                },
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            eventually(lambda: "why is up" in said.read_text(), within_s=15)
            yield Config(app=APP, database=database, home=home, traces=1.0)
        finally:
            process.terminate()
            process.wait(30)


def sent(config: Config, *messages: Message) -> list[str]:
    """Send these; return their ids."""

    async def send() -> list[str]:
        async with open_client(app, config) as client:
            return [receipt.id for receipt in await client.send_many(messages)]

    return asyncio.run(send())


def spans_of(config: Config, id_: str) -> list[Span]:
    async def read() -> list[list[Span]]:
        database = Database(config.database, app.name)
        try:
            return await TraceStore(database).of(id_)
        finally:
            await database.close()

    traces = asyncio.run(read())
    return traces[0] if traces else []


def rolekit(config: Config, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the app."""
    settings = [f"database={config.database}", f"home={config.home}"]
    command = [sys.executable, "-m", "rolekit", *arguments, "--app", APP]
    for setting in settings:
        command += ["--set", setting]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def wait_for_end(config: Config, id_: str, handler: str) -> list[Span]:
    """Wait until a handler of this trace is done for good, and nothing is under way."""

    def is_over() -> bool:
        spans = spans_of(config, id_)
        done = [
            s for s in spans if s.name == f"process {handler}" and s.ended_ns and not s.error
        ]
        return bool(done) and all(span.ended_ns for span in spans)

    eventually(is_over, within_s=20)
    return spans_of(config, id_)


def why(config: Config, id_: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(rolekit(config, "why", id_, "--json").stdout)
    return told


def test_a_message_behind_others_waited_in_the_queue(config: Config) -> None:
    *_, last = sent(config, *(Queued(n=n) for n in range(4)))
    wait_for_end(config, last, "Narrow.queued")

    told = why(config, last)

    assert told["cause"]["stage"] == "queue"
    assert told["cause"]["where"] == "Narrow.queued"
    assert told["seconds"]["queue"] > 1.5
    assert rolekit(config, "why", last).stdout.startswith("queue took most: ")


def test_a_slow_handler_is_named(config: Config) -> None:
    (id_,) = sent(config, Heavy(n=1))
    wait_for_end(config, id_, "Wide.heavy")

    told = why(config, id_)

    assert told["cause"]["stage"] == "handler"
    assert told["cause"]["where"] == "Wide.heavy"
    assert told["seconds"]["handler"] >= 1.5


def test_a_retry_is_named_with_what_failed(config: Config) -> None:
    (id_,) = sent(config, Flaky(n=1))
    wait_for_end(config, id_, "Wide.flaky")

    told = why(config, id_)

    assert told["cause"]["stage"] == "retry"
    assert "the mail server is busy" in told["cause"]["detail"]
    assert told["seconds"]["retry"] > 1


def test_a_part_that_waits_for_an_earlier_one_waits_for_a_hole(config: Config) -> None:
    (root,) = sent(config, Whole(parts=3))
    spans = wait_for_end(config, root, "Wide.whole")
    part = next(
        span.message
        for span in spans
        if span.name == "process Wide.part" and span.attributes["rolekit.position"] == "2"
    )

    told = why(config, part)

    assert told["cause"]["stage"] == "hole"
    assert told["cause"]["where"] == "Wide.whole"
    assert "position 0 came last: retry of Wide.part" in told["cause"]["detail"]
    assert "part 0 is not there yet" in told["cause"]["detail"]
    assert why(config, root)["cause"]["stage"] == "retry"


def test_a_crash_is_named_with_how_the_instance_died(config: Config, tmp_path: Path) -> None:
    (id_,) = sent(config, Deadly(marker=str(tmp_path / "died")))
    spans = wait_for_end(config, id_, "Mortal.deadly")

    told = why(config, id_)

    assert told["cause"]["stage"] == "crash"
    assert (
        "Mortal/0 died with it in hand. The instance ended: SIGKILL" in told["cause"]["detail"]
    )
    attempts = [span for span in spans if span.name == "process Mortal.deadly"]
    assert sorted(span.error for span in attempts) == ["", "InstanceDied"]


def test_each_item_of_a_batch_is_traced(config: Config) -> None:
    good, bad = sent(config, Item(n=1), Item(n=-1))
    spans = wait_for_end(config, good, "Together.counted")
    eventually(lambda: any(s.ended_ns and s.error for s in spans_of(config, bad)), within_s=20)

    attempt = next(span for span in spans if span.name == "process Together.many")
    rejected = next(s for s in spans_of(config, bad) if s.name == "process Together.many")

    assert (attempt.message, attempt.error) == (good, "")
    assert (rejected.message, rejected.detail) == (bad, "below zero")
    assert rejected.attributes["rolekit.outcome"] == "dead"


def test_a_trace_is_drawn_as_a_tree_and_leads_to_a_page(config: Config) -> None:
    (id_,) = sent(config, Whole(parts=9))
    wait_for_end(config, id_, "Wide.whole")

    shown = rolekit(
        config, "trace", id_, "--set", "trace_page=https://traces.example/{trace_id}"
    )

    lines = shown.stdout.splitlines()
    trace = lines[0].split()[1].rstrip(",")
    assert lines[1].startswith("send Wide.split")
    assert lines[2].startswith("  process Wide.split")
    assert any("… more of process Wide.part (--all shows them)" in line for line in lines)
    assert lines[-1] == f"https://traces.example/{trace}"


def test_an_id_that_nobody_traced_and_one_that_is_none_get_a_sentence(config: Config) -> None:
    unknown, no_id = rolekit(config, "why", "0" * 32), rolekit(config, "trace", "here")

    assert (unknown.returncode, no_id.returncode) == (1, 2)
    assert "No trace of" in unknown.stderr
    assert "32 hexadecimal digits are expected" in no_id.stderr


def test_the_numbers_are_there_for_prometheus(config: Config) -> None:
    sent(config, *(Heavy(n=n) for n in range(3)))
    done = 'rolekit_outcomes_total{app="why",handler="Wide.heavy",outcome="done",role="Wide"}'

    def numbers() -> str:
        return socket.get("/metrics").text

    transport = httpx.HTTPTransport(uds=str(config.home / "why.sock"))
    with httpx.Client(transport=transport, base_url="http://rolekit") as socket:
        eventually(lambda: any(
            line.startswith(done) and float(line.split()[-1]) >= 3
            for line in numbers().splitlines()
        ), within_s=20)  # fmt: skip
        text = numbers()

    for name in (
        'messaging_process_duration_seconds_bucket{app="why",handler="Wide.heavy",role="Wide"',
        'messaging_client_consumed_messages_total{app="why",role="Wide"}',
        'rolekit_commit_steps_count{app="why",role="Wide"}',
        'rolekit_instances{app="why",role="Wide",state="ready"} 1',
        'rolekit_restarts_total{app="why",role="Wide"} 0',
        'rolekit_loop_lag_seconds{app="why",role="Wide"}',
        'rolekit_pool_connections{app="why",role="Wide",state="idle"}',
        'rolekit_waiting{app="why",role="Wide"}',
        'rolekit_dead_letters{app="why",role="Wide"} 0',
        'rolekit_sequences_hole_age_seconds{app="why",gather="Wide.whole"}',
    ):
        assert name in text


def test_the_board_for_grafana_names_what_is_there(config: Config) -> None:
    wanted = {
        (name, label)
        for query in queries(app.name)
        for name in NAME.findall(query)
        for label in labels_in(query, name)
    }
    sent(config, Whole(parts=2), Flaky(n=1))
    series: dict[str, set[str]] = {}

    def all_there() -> bool:
        nonlocal series
        series = series_of(socket.get("/metrics").text)
        return all(label in series.get(name, ()) for name, label in wanted)

    transport = httpx.HTTPTransport(uds=str(config.home / "why.sock"))
    socket = httpx.Client(transport=transport, base_url="http://rolekit")
    with socket, contextlib.suppress(TimeoutError):
        eventually(all_there, within_s=20)

    assert [one for one in sorted(wanted) if one[1] not in series.get(one[0], ())] == []
    for variable in VARIABLES:
        (name,) = NAME.findall(variable["query"]["query"])
        assert variable["query"]["query"].endswith(f", {variable['name']})")
        assert variable["name"] in series[name]
