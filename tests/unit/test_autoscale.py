"""A fleet that follows its load: what is measured, what is done, what people are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from rolekit.errors import ConfigError, Unavailable
from rolekit.model.scaling import Damping
from rolekit.supervisor.autoscale import Autoscaler
from rolekit.supervisor.counts import count_of
from rolekit.supervisor.host import Backlog
from rolekit.supervisor.reasons import Reasons
from rolekit.supervisor.wire import Bounds, RoleSummary
from rolekit.transport.base import Depth

pytestmark = pytest.mark.anyio

ROLE = RoleSummary(
    name="Deliverer",
    queues=("Deliverer.deliver",),
    feeds=("Reporter.report",),
    scale=Bounds(1, 50, 5),
    concurrency=10,
)
FREE = RoleSummary(name="Free", queues=("Free.do",))


@dataclass
class Copy:
    """An instance, and its place."""

    pid: int
    handled: int = 0
    in_hand: int = 0
    cpu_s: float = 0
    age_s: float | None = None
    is_ready: bool = True

    @property
    def instance(self) -> Copy:
        return self


@dataclass
class Ship:
    """A fleet that starts and stops at once, and its queue."""

    roles: Mapping[str, RoleSummary] = field(
        default_factory=lambda: {"Deliverer": ROLE, "Free": FREE}
    )
    settings: dict[str, str] = field(default_factory=dict[str, str])
    reasons: Reasons = field(default_factory=Reasons)
    is_stopping: bool = False
    drained: set[str] = field(default_factory=set[str])
    waiting: int = 0
    oldest_s: float = 0
    stood_s: float = 0
    asked: list[tuple[Sequence[str], Mapping[str, float]]] = field(
        default_factory=list[tuple[Sequence[str], Mapping[str, float]]]
    )
    is_away: bool = False
    is_busy: bool = False
    hosts: int = 1
    now_s: float = 1000
    copies: list[Copy] = field(default_factory=lambda: [Copy(1)])
    pids: int = 1

    def slots(self, role: str) -> list[Copy]:
        return self.copies if role == "Deliverer" else []

    def leaving(self, role: str) -> list[Copy]:
        del role
        return []

    def known(self, name: str) -> RoleSummary:
        if name not in self.roles:
            raise ConfigError(f"There is no role {name}.")
        return self.roles[name]

    def is_drained(self, role: str) -> bool:
        return role in self.drained

    def drain(self, name: str, *, undo: bool = False) -> int:
        (self.drained.discard if undo else self.drained.add)(name)
        self.resize(name, 1 if undo else 0)
        return 1

    def setting(self, role: str, name: str) -> str | None:
        return self.settings.get(f"{role}.{name}")

    def scale(self, name: str, change: str) -> int:
        count = count_of(self.known(name), change, len(self.slots(name)))
        self.resize(name, count)
        return count

    def resize(self, name: str, count: int) -> None:
        assert name == "Deliverer"
        del self.copies[count:]
        while len(self.copies) < count:
            self.pids += 1
            self.copies.append(Copy(self.pids))

    async def measure(self, queues: Sequence[str], gathers: Mapping[str, float]) -> Backlog:
        if self.is_away:
            raise Unavailable("The database is away.")
        self.asked.append((queues, gathers))
        depth = Depth(self.waiting * self.hosts, 0, self.oldest_s, consumers=len(self.copies))
        if self.is_busy:
            depth = Depth(consumers=0)
        return Backlog(
            {"Deliverer.deliver": depth},
            {"Reporter.report": self.stood_s},
            {"Deliverer": self.hosts},
        )


class Deck:
    """A ship and its autoscaler, second by second."""

    def __init__(self) -> None:
        self.ship = Ship()
        self.scaler = Autoscaler(
            self.ship, self.ship.measure, Damping(), lambda: self.ship.now_s
        )

    async def sail(self, seconds: int, each_per_s: int = 10) -> None:
        """Let each instance settle so many a second, as long as there are any."""
        for _ in range(seconds):
            self.ship.now_s += 1
            for one in self.ship.copies:
                done = min(each_per_s, self.ship.waiting)
                self.ship.waiting -= done
                one.handled += done
                one.in_hand = 10 if done else 0
            await self.scaler.look()

    @property
    def said(self) -> list[str]:
        return [reason.what for reason in self.ship.reasons.of("Deliverer")]


async def test_a_burst_takes_it_up_and_later_down_and_says_why() -> None:
    deck = Deck()
    await deck.sail(3)
    deck.ship.waiting = 20_000

    await deck.sail(4)
    shown = deck.scaler.note("Deliverer")
    at_work = len(deck.ship.copies)
    await deck.sail(150)

    assert at_work == 50
    assert len(deck.ship.copies) == 1
    assert [what.partition(":")[0] for what in deck.said] == ["1 \u2192 50", "50 \u2192 1"]
    assert shown.startswith("scaling up: 19,980 wait, 1,998 s of work for 1")
    assert "(" not in shown
    assert deck.scaler.note("Deliverer") == ""
    assert deck.scaler.now("Deliverer") == "1: nothing to do"


async def test_a_broker_too_busy_to_say_what_waits_is_not_taken_for_an_empty_queue() -> None:
    deck = Deck()
    await deck.sail(3)
    deck.ship.waiting = 100_000
    await deck.sail(4)
    deck.ship.is_busy = True

    await deck.sail(150)
    in_the_dark = deck.scaler.now("Deliverer")
    deck.ship.is_busy = False
    await deck.sail(150)

    assert "too busy to say" in in_the_dark
    assert [what.partition(":")[0] for what in deck.said] == ["1 \u2192 50", "50 \u2192 1"]
    assert len(deck.ship.copies) == 1


async def test_hosts_share_what_waits() -> None:
    alone, among_two = Deck(), Deck()
    among_two.ship.hosts = 2
    for deck in (alone, among_two):
        await deck.sail(3, each_per_s=40)
        deck.ship.waiting = 2000  # of what waits, this host's part
        await deck.sail(4, each_per_s=40)

    assert 1 < len(among_two.ship.copies) == len(alone.ship.copies) < 50
    assert "one of 2 hosts" in among_two.scaler.now("Deliverer")
    assert "hosts" not in alone.scaler.now("Deliverer")


async def test_what_more_is_needed_than_allowed_is_shown() -> None:
    deck = Deck()
    deck.ship.waiting = 1_000_000

    await deck.sail(20)

    assert deck.scaler.note("Deliverer").endswith("50 is the most its scale allows")


async def test_the_rule_of_a_drained_role_rests_until_it_is_taken_up_again() -> None:
    deck = Deck()
    await deck.sail(3)
    deck.ship.drain("Deliverer")
    deck.ship.waiting = 20_000

    await deck.sail(5)
    while_drained = len(deck.ship.copies)
    deck.scaler.scale("Deliverer", "auto")
    await deck.sail(5)

    assert while_drained == 0
    assert len(deck.ship.copies) == 50


async def test_a_number_by_hand_holds_until_auto_is_said() -> None:
    deck = Deck()
    await deck.sail(3)

    count = deck.scaler.scale("Deliverer", "+2")
    deck.ship.waiting = 20_000
    await deck.sail(5)
    by_hand, told = len(deck.ship.copies), deck.scaler.now("Deliverer")
    noted = deck.scaler.note("Deliverer")
    again = deck.scaler.scale("Deliverer", "auto")
    await deck.sail(5)

    assert (count, by_hand, again) == (3, 3, 3)
    assert told.startswith(
        "set by hand until `rolekit scale Deliverer=auto`; its rule says: 50: "
    )
    assert noted == "by hand until Deliverer=auto"
    assert len(deck.ship.copies) == 50
    assert deck.said[:2] == ["1 \u2192 3 by hand", "its rule decides again"]


async def test_numbers_stay_while_queues_cannot_be_read() -> None:
    deck = Deck()
    deck.ship.waiting = 20_000
    await deck.sail(5)
    deck.ship.is_away = True

    with pytest.raises(Unavailable):
        await deck.scaler.look()

    assert len(deck.ship.copies) == 50


async def test_a_role_without_a_rule_has_nothing_and_may_not_say_auto() -> None:
    deck = Deck()
    await deck.sail(1)

    assert deck.scaler.now("Free") == deck.scaler.note("Free") == ""
    with pytest.raises(ConfigError, match="cannot have 'auto' instances"):
        deck.scaler.scale("Free", "auto")
    with pytest.raises(ConfigError, match="There is no role Fre"):
        deck.scaler.scale("Fre", "auto")


async def test_only_queues_of_roles_with_a_rule_are_looked_at() -> None:
    deck = Deck()
    await deck.sail(1)
    deck.ship.roles = {"Free": FREE}
    await deck.sail(1)

    assert deck.ship.asked == [(["Deliverer.deliver"], {"Reporter.report": 20})]


async def test_the_age_of_what_came_out_counts_where_the_broker_tells_none() -> None:
    deck = Deck()
    deck.ship.waiting = 40
    await deck.sail(1, each_per_s=1)
    deck.ship.copies[0].age_s = 3.1
    await deck.sail(1, each_per_s=1)

    await deck.sail(2, each_per_s=1)

    assert deck.said == ["1 \u2192 2: oldest 3.1 s is near 5 s"]


async def test_a_gather_that_stands_makes_it_hurry() -> None:
    deck = Deck()
    deck.ship.stood_s = 41
    deck.ship.waiting = 60
    await deck.sail(5)

    assert "a gather has stood for 41 s" in deck.said[0]
