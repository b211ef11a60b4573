"""`rolekit why` and `rolekit trace` on real messages, each delayed by another cause.

No collector is there: what is told comes from the traces that are kept in Postgres.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from rolekit.config import Config
from rolekit.database import Database
from rolekit.model.sample import METRICS
from rolekit.model.span import TRACEPARENT
from rolekit.observe.tracing import carried
from rolekit.wiring import open_client
from tests.patience import patient
from tests.process.board import VARIABLES, labels_in, names_in, queries, series_of
from tests.process.supervised import ROOT, eventually
from tests.process.traced import newest, rolekit, sent, spans_of
from tests.process.why_app import (
    LONG_S,
    Deadly,
    Flaky,
    Given,
    Heavy,
    Item,
    Queued,
    Wanted,
    Whole,
    app,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rolekit.model.span import Span
    from rolekit.testing.plugin import DatabaseServer

pytestmark = [pytest.mark.servers, pytest.mark.timeout(150)]

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
            eventually(lambda: "why is up" in said.read_text(), within_s=60)
            yield Config(app=APP, database=database, home=home, traces=1.0)
        finally:
            process.terminate()
            process.wait(patient(30))


@dataclass(frozen=True)
class Delayed:
    """Messages that were delayed, each by another cause."""

    queued: str
    slow: str
    retried: str
    split: str
    deadly: str


@pytest.fixture(scope="module")
def delayed(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Delayed:
    """Send them all at once, so that their delays pass side by side; wait for their ends."""
    marker = tmp_path_factory.mktemp("deadly") / "died"
    *_, queued, slow, retried, split, deadly = sent(
        app, config, *(Queued(n=n) for n in range(4)), Heavy(n=1), Flaky(n=1), Whole(parts=3),
        Deadly(marker=str(marker)),
    )  # fmt: skip
    for id_, handler in (
        (queued, "Narrow.queued"),
        (slow, "Wide.heavy"),
        (retried, "Wide.flaky"),
        (split, "Wide.whole"),
        (deadly, "Mortal.deadly"),
    ):
        wait_for_end(config, id_, handler)
    return Delayed(queued, slow, retried, split, deadly)


def wait_for_end(config: Config, id_: str, handler: str) -> list[Span]:
    """Wait until a handler of this trace is done for good, and nothing is under way."""

    def is_over(spans: list[Span]) -> bool:
        done = [
            s for s in spans if s.name == f"process {handler}" and s.ended_ns and not s.error
        ]
        return bool(done) and all(span.ended_ns for span in spans)

    return until(config, id_, is_over)


def until(config: Config, id_: str, is_so: Callable[[list[Span]], bool]) -> list[Span]:
    """Wait until the spans of a trace are so; return them."""

    async def look() -> list[Span]:
        database = Database(config.database, app.name)
        try:
            async with asyncio.timeout(patient(60)):
                while not is_so(spans := await newest(database, id_)):  # noqa: ASYNC110 - a database tells nobody
                    await asyncio.sleep(0.05)
                return spans
        finally:
            await database.close()

    return asyncio.run(look())


def why(config: Config, id_: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(rolekit(config, "why", id_, "--json")[1])
    return told


def test_a_message_behind_others_waited_in_the_queue(config: Config, delayed: Delayed) -> None:
    told = why(config, delayed.queued)

    assert told["cause"]["stage"] == "queue"
    assert told["cause"]["where"] == "Narrow.queued"
    assert told["seconds"]["queue"] > LONG_S


def test_a_slow_handler_is_named(config: Config, delayed: Delayed) -> None:
    told = why(config, delayed.slow)

    assert told["cause"]["stage"] == "handler"
    assert told["cause"]["where"] == "Wide.heavy"
    assert told["seconds"]["handler"] >= LONG_S * 0.99
    assert rolekit(config, "why", delayed.slow)[1].startswith("handler took most: ")


def test_a_retry_is_named_with_what_failed(config: Config, delayed: Delayed) -> None:
    told = why(config, delayed.retried)

    assert told["cause"]["stage"] == "retry"
    assert "the mail server is busy" in told["cause"]["detail"]
    assert told["seconds"]["retry"] > LONG_S * 0.7


def test_a_part_that_waits_for_an_earlier_one_waits_for_a_hole(
    config: Config, delayed: Delayed
) -> None:
    part = next(
        span.message
        for span in spans_of(app, config, delayed.split)
        if span.name == "process Wide.part" and span.attributes["rolekit.position"] == "2"
    )

    told = why(config, part)

    assert told["cause"]["stage"] == "hole"
    assert told["cause"]["where"] == "Wide.whole"
    assert "position 0 came last: retry of Wide.part" in told["cause"]["detail"]
    assert "part 0 is not there yet" in told["cause"]["detail"]
    assert why(config, delayed.split)["cause"]["stage"] == "retry"


def test_a_crash_is_named_with_how_the_instance_died(config: Config, delayed: Delayed) -> None:
    told = why(config, delayed.deadly)

    assert told["cause"]["stage"] == "crash"
    assert (
        "Mortal/0 died with it in hand. The instance ended: SIGKILL" in told["cause"]["detail"]
    )
    attempts = [
        span
        for span in spans_of(app, config, delayed.deadly)
        if span.name == "process Mortal.deadly"
    ]
    assert sorted(span.error for span in attempts) == ["", "InstanceDied"]


def test_whoever_follows_or_asks_is_part_of_the_trace(config: Config) -> None:
    asked = "0af7651916cd43dd8448eb211c80319c"

    async def talk() -> str:
        async with open_client(app, config) as client:
            receipt = await client.send(Wanted(n=1))
            async for given in client.follow(receipt, until=Given):
                assert given.n == 1
            token = carried.set({TRACEPARENT: f"00-{asked}-b7ad6b7169203331-01"})
            await client.ask(Wanted(n=2), Given)
            carried.reset(token)
            return receipt.id

    followed = asyncio.run(talk())

    for id_, above in ((followed, "process Wide.wanted"), (asked, "send ~reply")):
        spans = until(config, id_, _is_received)
        by_id = {span.id: span for span in spans}
        (received,) = [span for span in spans if span.name == "receive Given"]
        assert by_id[received.parent].name.startswith(above)
        assert len([span for span in spans if span.parent not in by_id]) == 1


def _is_received(spans: list[Span]) -> bool:
    """Whether an answer was received, and all is there that it follows from, to its end."""
    ids = {span.id for span in spans}
    return all(span.ended_ns for span in spans) and any(
        span.name == "receive Given" and span.parent in ids for span in spans
    )


def test_each_item_of_a_batch_is_traced(config: Config) -> None:
    good, bad = sent(app, config, Item(n=1), Item(n=-1))
    spans = wait_for_end(config, good, "Together.counted")
    eventually(
        lambda: any(s.ended_ns and s.error for s in spans_of(app, config, bad)), within_s=50
    )

    attempt = next(span for span in spans if span.name == "process Together.many")
    rejected = next(s for s in spans_of(app, config, bad) if s.name == "process Together.many")

    assert (attempt.message, attempt.error) == (good, "")
    assert (rejected.message, rejected.detail) == (bad, "below zero")
    assert rejected.attributes["rolekit.outcome"] == "dead"


def test_a_trace_is_drawn_as_a_tree_and_leads_to_a_page(config: Config) -> None:
    (id_,) = sent(app, config, Whole(parts=9))
    wait_for_end(config, id_, "Wide.whole")

    page = ("--set", "trace_page=https://traces.example/{trace_id}")
    lines = rolekit(config, "trace", id_, *page)[1].splitlines()

    trace = lines[0].split()[1].rstrip(",")
    assert lines[1].startswith("send Wide.split")
    assert lines[2].startswith("  process Wide.split")
    assert any("… more of process Wide.part (--all shows them)" in line for line in lines)
    assert lines[-1] == f"https://traces.example/{trace}"


def test_an_id_that_nobody_traced_and_one_that_is_none_get_a_sentence(config: Config) -> None:
    unknown, no_id = rolekit(config, "why", "0" * 32), rolekit(config, "trace", "here")

    assert (unknown[0], no_id[0]) == (1, 2)
    assert "No trace of" in unknown[2]
    assert "32 hexadecimal digits are expected" in no_id[2]


def test_what_came_is_what_it_came_to_once_all_is_at_rest(
    config: Config, delayed: Delayed
) -> None:
    """Retries, a crash, splits and releases, batches, dead letters: each is accounted for."""
    sent(app, config, *(Item(n=n - 50) for n in range(100)), *(Heavy(n=n) for n in range(5)),
         *(Whole(parts=n) for n in range(5)))  # fmt: skip
    assert delayed.deadly

    def is_balanced() -> bool:
        found = books(config)
        # What a killed instance had taken is in nobody's books: Mortal's are its successor's.
        return found["Together"][0] >= 150 and all(
            left == 0 and (came == out or role == "Mortal")
            for role, (came, out, left) in found.items()
        )

    eventually(is_balanced, within_s=50)


def books(config: Config) -> dict[str, list[float]]:
    """Read by role: how many messages came, what came of them, what is unaccounted for."""
    found: dict[str, list[float]] = {}
    for line in metrics(config):
        name, _, rest = line.partition("{")
        role = re.search(r'role="(\w+)"', rest)
        if role is not None and name in _BOOKS:
            found.setdefault(role[1], [0.0, 0.0, 0.0])[_BOOKS[name]] += float(rest.split()[-1])
    return found


_BOOKS = {
    "messaging_client_consumed_messages_total": 0,
    "rolekit_outcomes_total": 1,
    "rolekit_unaccounted": 2,
}


def metrics(config: Config) -> list[str]:
    transport = httpx.HTTPTransport(uds=str(config.home / "why.sock"))
    with httpx.Client(transport=transport, base_url="http://rolekit") as control:
        return control.get("/metrics").text.splitlines()


def test_the_numbers_are_there_for_prometheus(config: Config) -> None:
    # These may be all that came so far: what the other tests send is not counted on.
    sent(app, config, *(Heavy(n=n) for n in range(3)), Whole(parts=2))
    wanted = (
        'rolekit_outcomes_total{app="why",handler="Wide.heavy",outcome="done",role="Wide"}',
        (
            'messaging_process_duration_seconds_bucket{app="why",handler="Wide.heavy",'
            'messaging_destination_name="Wide.heavy",messaging_destination_template="Wide.heavy",'
            'messaging_operation_name="process",messaging_system="postgresql",role="Wide"'
        ),
        (
            'messaging_client_consumed_messages_total{app="why",'
            'messaging_operation_name="receive",messaging_system="postgresql",role="Wide",'
            'server_address="'
        ),
        'rolekit_commit_steps_count{app="why",role="Wide"}',
        'rolekit_instances{app="why",role="Wide",state="ready"} 1',
        'rolekit_restarts_total{app="why",role="Wide"} 0',
        'rolekit_loop_lag_seconds{app="why",role="Wide"}',
        'rolekit_pool_connections{app="why",role="Wide",state="idle"}',
        'rolekit_waiting{app="why",role="Wide"}',
        'rolekit_dead_letters{app="why",role="Wide"} 0',
        'rolekit_sequences_holes{app="why",gather="Wide.whole"}',
        'rolekit_sequences_hole_age_seconds{app="why",gather="Wide.whole"}',
    )
    text = ""

    def all_there() -> bool:
        nonlocal text
        text = socket.get("/metrics").text
        return all(name in text for name in wanted)

    transport = httpx.HTTPTransport(uds=str(config.home / "why.sock"))
    socket = httpx.Client(transport=transport, base_url="http://rolekit")
    with socket, contextlib.suppress(TimeoutError):
        eventually(all_there, within_s=50)

    assert [name for name in wanted if name not in text] == []


def test_the_board_for_grafana_names_what_is_there(config: Config) -> None:
    wanted = {
        (name, label)
        for query in queries(app.name)
        for name in names_in(query)
        for label in labels_in(query, name)
    }
    of_broker = {one for one in wanted if one[0].startswith("rolekit_broker_")}
    wanted -= of_broker  # this app runs without one
    sent(app, config, Whole(parts=2), Flaky(n=1))
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
    told = {name.replace(".", "_") for name in METRICS}
    assert {name.removesuffix("_total") for name, _ in of_broker} < told
    assert {label for _, label in of_broker} == {"app", "role", "connection"}
    for variable in VARIABLES:
        (name,) = names_in(variable["query"]["query"])
        assert variable["query"]["query"].endswith(f", {variable['name']})")
        assert variable["name"] in series[name]
