"""Relays and timers: who fires, when, and what becomes of times that nobody saw."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from rolekit.clock import ManualClock
from rolekit.flow.timers import DAY_MS, GONE_MS, LEFT_MS, Timers
from rolekit.model.cron import parse
from rolekit.model.envelope import Kind, decode_head
from rolekit.model.plan import AppPlan, HandlerPlan
from rolekit.model.timing import Timing
from rolekit.store.memory import MemoryStore
from rolekit.store.memory_tables import MemoryTables

if TYPE_CHECKING:
    from rolekit.store.base import Commit

pytestmark = pytest.mark.anyio

HOUR_S = 3600
START_MS = 1_800_000_000_000  # 2027-01-15 08:00 UTC


class Hosts:
    """Some hosts with one database and one clock."""

    def __init__(self) -> None:
        self.clock = ManualClock(START_MS)
        self.tables = MemoryTables(self.clock)

    def relay(self, **timings: Timing) -> Timers:
        """Start one whose code has these handlers."""
        plan = AppPlan(
            name="a",
            handlers={
                name: HandlerPlan(name=name, role="R", method=name, timing=timing)
                for name, timing in timings.items()
            },
            destinations={},
            reaches={},
            opens={},
            wire_names={},
            types={},
        )
        return Timers(plan, MemoryStore(self.tables), self.clock)

    def schedules(self) -> dict[str, str]:
        return {name: row.schedule for name, row in self.tables.timers.items()}


def hourly(line: str = "0 * * * *", missed: Literal["once", "skip", "all"] = "once") -> Timing:
    return Timing(cron=parse(line), missed=missed)


def due_after_s(commits: list[Commit]) -> list[int]:
    """Say when what was sent was due, in seconds after the start."""
    packets = [out.packet for commit in commits for out in commit.leaving]
    heads = [decode_head(packet.head) for packet in packets]
    assert all(head.kind is Kind.FIRING for head in heads)
    return [(head.sent_at_ms - START_MS) // 1000 for head in heads]


async def test_of_several_relays_one_fires() -> None:
    hosts = Hosts()
    relays = [hosts.relay(tick=hourly()) for _ in range(3)]
    for relay in relays:
        assert await relay.fire() == []
    hosts.clock.advance(HOUR_S)

    commits = [commit for relay in relays for commit in await relay.fire()]

    assert due_after_s(commits) == [HOUR_S]


async def test_a_firing_is_named_by_handler_and_due_time_and_born_then() -> None:
    ids: list[str] = []
    for _ in range(2):
        hosts = Hosts()
        relay = hosts.relay(tick=hourly())
        await relay.fire()
        hosts.clock.advance(HOUR_S + 40)
        (commit,) = await relay.fire()
        packet = commit.leaving[0].packet
        assert packet.birth_ms == START_MS + HOUR_S * 1000
        assert decode_head(packet.head).root == packet.id
        ids.append(packet.id)

    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("missed", "after_s", "fired"),
    [
        ("once", 5 * HOUR_S + 600, [5 * HOUR_S]),
        ("skip", 5 * HOUR_S + 600, []),
        ("skip", 5 * HOUR_S + 59, [5 * HOUR_S]),
        ("all", 3 * HOUR_S + 600, [HOUR_S, 2 * HOUR_S, 3 * HOUR_S]),
    ],
)
async def test_what_passed_while_nothing_ran_goes_by_missed(
    missed: Literal["once", "skip", "all"], after_s: int, fired: list[int]
) -> None:
    hosts = Hosts()
    await hosts.relay(tick=hourly(missed=missed)).fire()
    hosts.clock.advance(after_s)
    again = hosts.relay(tick=hourly(missed=missed))

    commits = await again.fire()
    more = await again.fire()

    assert (due_after_s(commits), more) == (fired, [])
    next_s = (after_s // HOUR_S + 1) * HOUR_S
    assert await again.next_ms() == START_MS + next_s * 1000


async def test_what_was_due_days_ago_is_born_now_so_that_the_inbox_knows_its_day() -> None:
    hosts = Hosts()
    await hosts.relay(tick=hourly("0 0 1 2 *")).fire()
    hosts.clock.advance(60 * DAY_MS / 1000)

    (commit,) = await hosts.relay(tick=hourly("0 0 1 2 *")).fire()

    packet = commit.leaving[0].packet
    now_ms = hosts.clock.now_ms()
    assert packet.birth_ms == now_ms
    assert decode_head(packet.head).sent_at_ms < now_ms - 40 * DAY_MS


async def test_another_schedule_in_the_code_counts_from_its_start() -> None:
    hosts = Hosts()
    old = hosts.relay(tick=hourly())
    await old.fire()
    hosts.clock.advance(600)

    new = hosts.relay(tick=hourly("30 * * * *"))
    await new.fire()
    hosts.clock.advance(HOUR_S - 600)
    by_old, by_new = await old.fire(), await new.fire()

    assert due_after_s([*by_old, *by_new]) == [HOUR_S // 2]
    assert hosts.schedules() == {"tick": "30 * * * * UTC"}


async def test_a_timer_whose_code_left_is_taken_over() -> None:
    hosts = Hosts()
    staying = hosts.relay(tick=hourly())
    await staying.fire()
    await hosts.relay(tick=hourly("30 * * * *")).fire()  # then its host is gone
    hosts.clock.advance(HOUR_S // 2 + LEFT_MS / 1000)
    await staying.fire()
    before = hosts.schedules()
    hosts.clock.advance(LEFT_MS / 1000 + 1)

    await staying.fire()
    hosts.clock.advance(HOUR_S // 2)

    assert before == {"tick": "30 * * * * UTC"}
    assert due_after_s(await staying.fire()) == [HOUR_S]


async def test_a_handler_that_is_gone_from_the_code_fires_no_more_and_is_dropped() -> None:
    hosts = Hosts()
    await hosts.relay(tick=hourly(), tock=hourly()).fire()
    left = hosts.relay(tock=hourly())
    await left.fire()
    await left.drop_gone()
    before = set(hosts.tables.timers)

    hosts.clock.advance(HOUR_S + GONE_MS / 1000 + 1)
    commits = await left.fire()
    await left.drop_gone()

    assert before == {"tick", "tock"}
    assert due_after_s(commits) == [HOUR_S]
    assert set(hosts.tables.timers) == {"tock"}


async def test_a_row_that_was_dropped_under_way_is_planted_again() -> None:
    hosts = Hosts()
    relay = hosts.relay(tick=hourly())
    await relay.fire()
    hosts.tables.timers.clear()

    await relay.fire()
    hosts.clock.advance(HOUR_S)

    assert due_after_s(await relay.fire()) == [HOUR_S]


async def test_only_the_zone_and_the_line_make_a_schedule() -> None:
    one = hourly()

    assert replace(one, missed="all").text == one.text
    assert replace(one, zone_name="Europe/Berlin").text != one.text
    assert Timing(every_ms=500).text == "every 0.5 s"
