"""Numbers: counted by instances, added up by roles, read by Prometheus's own parser."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from rolekit import Context, Message, Retry, WorkerRole, handle
from rolekit.errors import Unavailable
from rolekit.model.conventions import naming, server_of
from rolekit.model.sample import METRICS, SECONDS, Sample, added_up, prometheus
from rolekit.observe.meters import MOST_ERRORS, Meters
from rolekit.supervisor.host import OpenSequences, none_open
from rolekit.supervisor.numbers import Numbers
from rolekit.supervisor.status import FleetStatus, RoleStatus
from tests.unit.fakes_flow import Line, working

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.anyio]

EMPTY = FleetStatus(
    app="shop", target="a:b", pid=1, state="ready", is_database_away=False, roles=()
)

IDLE = RoleStatus(
    role="Worker", state="ready", running=1, instances=1, ready=1, in_hand=0,
    waiting=0, oldest_s=0, rate=0, dead=0,
)  # fmt: skip

SENT = (("messaging.operation.name", "send"), ("messaging.system", "postgresql"))


class Work(Message):
    """Fails or is done."""

    fails: bool


class Works(WorkerRole):
    """Does what it is told."""

    @handle
    async def work(self, work: Work, ctx: Context) -> None:
        if work.fails:
            raise Retry("later", delay_s=3600)


def parsed(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Read a text as Prometheus does: values by name of the sample, then by its labels."""
    parser: Any = importlib.import_module("prometheus_client.parser")  # its types are lax
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def values(samples: Sequence[Sample], name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {one.labels: one.value for one in samples if one.name == name}


async def test_an_instance_counts_what_messages_came_to_and_how_long_they_took() -> None:
    meters = Meters()
    line = Line(Works, meters=meters)

    async with working(line):
        await line.send(Work(fails=False), Work(fails=False), Work(fails=True))
        await line.idle()

    samples = meters.read()
    handler = ("handler", "Works.work")
    assert values(samples, "rolekit.outcomes") == {
        (handler, ("outcome", "done")): 2,
        (handler, ("outcome", "retry")): 1,
    }
    assert values(samples, "messaging.client.consumed.messages") == {(): 3}
    took = {
        one.labels: sum(one.counts)
        for one in samples
        if one.name == "messaging.process.duration"
    }
    assert took == {(handler,): 2, (("error.type", "Retry"), handler): 1}
    (waited,) = [one for one in samples if one.name == "rolekit.queue.wait"]
    assert sum(waited.counts) == 3
    (steps,) = [one for one in samples if one.name == "rolekit.commit.steps"]
    assert sum(steps.counts) >= 1


def test_a_handler_that_fails_in_ever_new_ways_has_a_bounded_number_of_series() -> None:
    meters = Meters()
    for number in range(2 * MOST_ERRORS):
        meters.handler("Works.work").raised(type(f"E{number}", (Exception,), {})(), 0.1)

    labels = [one.labels for one in meters.read() if one.name == "messaging.process.duration"]

    kinds = [value for pairs in labels for name, value in pairs if name == "error.type"]
    assert len(kinds) == MOST_ERRORS + 1
    assert "_OTHER" in kinds
    assert sum(sum(one.counts) for one in meters.read()) == 2 * MOST_ERRORS


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("amqps://me:secret@box/shop", {"server.address": "box", "server.port": 5671}),
        ("postgresql://me@[::1]:6000/shop", {"server.address": "::1", "server.port": 6000}),
        ("postgresql://me@/shop?host=/run/pg&port=5432", {"server.address": "/run/pg"}),
        ("amqp://me:secret@one,two/shop", {}),
        ("amqp://me:secret@one:5672,two:5672/shop", {}),
        ("", {}),
    ],
)
def test_the_server_is_said_where_one_url_names_one(
    url: str, server: dict[str, object]
) -> None:
    assert dict(server_of(url)) == server


async def test_holes_are_counted_by_gather_and_a_database_that_is_away_says_nothing() -> None:
    is_away = False

    async def look_at(gathers: Sequence[str]) -> dict[str, OpenSequences]:
        if is_away:
            raise Unavailable("away")
        return {name: OpenSequences(3, 41.5) for name in gathers}

    numbers = Numbers(look_at, ["Joins.join"], dict, clock=iter((0.0, 10.0)).__next__)
    found = await numbers.read(EMPTY)
    is_away = True
    later = await numbers.read(EMPTY)

    gather = (("gather", "Joins.join"),)
    assert values(found, "rolekit.sequences.holes") == {gather: 3}
    assert values(found, "rolekit.sequences.hole.age") == {gather: 41.5}
    assert values(later, "rolekit.sequences.holes") == {}


async def test_sums_do_not_fall_when_an_instance_ends() -> None:
    numbers = Numbers(none_open, [], lambda: {"rolekit.spans.dropped": 7})
    sent = "messaging.client.sent.messages"
    numbers.take("Worker/0 1", [Sample(sent, (), 5)])
    numbers.take("Worker/1 2", [Sample(sent, (), 3)])
    before = await numbers.read(EMPTY)

    numbers.gone("Worker/0 1")
    numbers.take("Worker/0 3", [Sample(sent, (), 1)])
    after = await numbers.read(EMPTY)

    role = (*SENT, ("role", "Worker"))
    assert (values(before, sent), values(after, sent)) == ({role: 8}, {role: 9})
    assert values(after, "rolekit.spans.dropped") == {(): 7}


async def test_metrics_of_the_conventions_say_what_the_conventions_want() -> None:
    how = naming("amqps://me:secret@broker/shop", "", "shop", frozenset({"Worker.work"}))
    numbers = Numbers(none_open, [], dict, how)
    counts = (0,) * (len(SECONDS) + 1)
    took, operation = "messaging.process.duration", "messaging.client.operation.duration"
    numbers.take(
        "Worker/0 1",
        [
            *(
                Sample(took, (("handler", f"Worker.{one}"),), 1, counts)
                for one in ("work", "keyed")
            ),
            Sample(operation, (("operation", "commit"),), 1, counts),
            Sample("rolekit.queue.wait", (("handler", "Worker.work"),), 1, counts),
        ],
    )

    found = await numbers.read(msgspec.structs.replace(EMPTY, roles=(IDLE,)))

    said = {(one.name, dict(one.labels).get("handler")): dict(one.labels) for one in found}
    role = {"messaging.system": "rabbitmq", "role": "Worker"}
    common = {**role, "server.address": "broker", "server.port": "5671"}
    assert said[took, "Worker.work"] == {
        **common,
        "handler": "Worker.work",
        "messaging.operation.name": "process",
        "messaging.destination.name": "shop.Worker.work",
        "messaging.destination.template": "Worker.work",
    }
    keyed = said[took, "Worker.keyed"]  # its queues are those of partitions
    assert "messaging.destination.name" not in keyed
    assert keyed["messaging.destination.template"] == "Worker.keyed"
    # The database does that, and not the broker.
    assert said[operation, None] == {**role, "messaging.operation.name": "commit"}
    for name, what in (("sent", "send"), ("consumed", "receive")):
        found_labels = said[f"messaging.client.{name}.messages", None]
        assert found_labels == {**common, "messaging.operation.name": what}
    assert said["rolekit.queue.wait", "Worker.work"] == {
        "handler": "Worker.work", "role": "Worker",
    }  # fmt: skip
    assert 'messaging_destination_name="shop.Worker.work"' in prometheus(found, {"app": "shop"})


async def test_the_worst_lag_of_a_role_is_that_of_who_lives_and_as_it_is_now() -> None:
    numbers = Numbers(none_open, [], dict)
    role, lag = (("role", "Worker"),), "rolekit.loop.lag"
    found: list[dict[tuple[tuple[str, str], ...], float]] = []

    numbers.lags("Worker/0 1", 0.9)
    numbers.lags("Worker/1 2", 0.2)
    found.append(values(await numbers.read(EMPTY), lag))
    numbers.lags("Worker/0 1", 0.5)
    found.append(values(await numbers.read(EMPTY), lag))
    numbers.gone("Worker/0 1")
    found.append(values(await numbers.read(EMPTY), lag))
    numbers.gone("Worker/1 2")
    found.append(values(await numbers.read(EMPTY), lag))

    assert found == [{role: 0.9}, {role: 0.5}, {role: 0.2}, {}]


async def test_restarts_do_not_fall_when_the_places_that_had_them_are_given_up() -> None:
    numbers = Numbers(none_open, [], dict)
    fleet = msgspec.structs.replace(EMPTY, roles=(IDLE,))
    role = (("role", "Worker"),)

    before = await numbers.read(fleet)
    for _ in range(3):
        numbers.restarted("Worker")
    after = await numbers.read(fleet)  # of which no place tells of a restart

    assert values(before, "rolekit.restarts") == {role: 0}
    assert values(after, "rolekit.restarts") == {role: 3}


async def test_counters_of_a_role_are_there_before_they_count() -> None:
    numbers = Numbers(none_open, [], dict)
    fleet = msgspec.structs.replace(EMPTY, roles=(IDLE,))
    role = (("role", "Worker"),)

    before = await numbers.read(fleet)
    numbers.take("Worker/0 1", [Sample("rolekit.inbox.conflicts", (), 2)])
    after = await numbers.read(fleet)

    assert values(before, "rolekit.inbox.conflicts") == {role: 0}
    assert values(before, "messaging.client.sent.messages") == {(*SENT, *role): 0}
    assert values(after, "rolekit.inbox.conflicts") == {role: 2}


def test_prometheus_reads_what_is_written() -> None:
    counts = (1, *([0] * (len(SECONDS) - 1)), 2)
    samples = added_up(
        (
            Sample("rolekit.outcomes", (("handler", 'a"b\\c\nd'),), 3),
            Sample("messaging.process.duration", (("handler", "x"),), 120.5, counts),
        )
    )

    found = parsed(prometheus(samples, {"app": "shop"}))

    label = (("app", "shop"), ("handler", 'a"b\\c\nd'))
    assert found["rolekit_outcomes_total"] == {label: 3}
    labels = (("app", "shop"), ("handler", "x"))
    assert found["messaging_process_duration_seconds_count"] == {labels: 3}
    assert found["messaging_process_duration_seconds_sum"] == {labels: 120.5}
    buckets = found["messaging_process_duration_seconds_bucket"]
    assert buckets[("app", "shop"), ("handler", "x"), ("le", "60")] == 1
    assert buckets[("app", "shop"), ("handler", "x"), ("le", "+Inf")] == 3


def test_a_histogram_counts_a_bound_with_what_is_below() -> None:
    meters = Meters()
    cell = meters.histogram("rolekit.commit.steps")
    for value in (1, 2, 3, 1000):
        cell.add(value)

    (sample,) = meters.read()

    bounds = METRICS["rolekit.commit.steps"].bounds
    assert len(sample.counts) == len(bounds) + 1
    assert (sample.counts[0], sample.counts[1], sample.counts[2], sample.counts[-1]) == (
        1, 1, 1, 1,
    )  # fmt: skip
    assert sample.value == 1006
