"""What an instance tells its supervisor of its numbers, and when."""

from __future__ import annotations

import pytest

from rolekit import App, events, link
from rolekit.database import Database
from rolekit.observe.meters import Meters
from rolekit.wiring.counted import Telling
from rolekit.wiring.parts import Parts, build
from rolekit.wiring.rehearsal import NOWHERE, Actor

pytestmark = [pytest.mark.anyio]


def parts() -> Parts:
    plan = App("numbers", roles=[Actor]).plan()
    return build(plan, 0, NOWHERE, "", meters=Meters())


def told(lines: list[bytes]) -> list[dict[tuple[str, str], float]]:
    """Read lines: values by name and by what their labels say."""
    found: list[dict[tuple[str, str], float]] = []
    for line in lines:
        measured = link.from_instance(line)
        assert isinstance(measured, link.Measured)
        found.append(
            {
                (one.name, "".join(v for _, v in one.labels)): one.value
                for one in measured.samples
            }
        )
    return found


async def test_how_things_stand_is_told_when_it_changes_though_nothing_was_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[bytes] = []
    stand = iter([(4, 0), (4, 0), (1, 3)])
    monkeypatch.setattr(Database, "connections", property(lambda _: next(stand)))
    telling = Telling(parts(), None, lines.append)

    for _ in range(3):
        telling.tell()

    used, idle = ("rolekit.pool.connections", "used"), ("rolekit.pool.connections", "idle")
    dropped = {("rolekit.events.dropped", ""): events.dropped()}
    assert told(lines) == [dropped | {used: 4, idle: 0}, dropped | {used: 1, idle: 3}]


async def test_what_was_counted_is_told_once() -> None:
    lines: list[bytes] = []
    mine = parts()
    telling = Telling(mine, None, lines.append)
    telling.tell()
    meters = mine.services.runtime.meters
    assert meters is not None

    meters.counter("messaging.client.consumed.messages").value += 2
    telling.tell()
    telling.tell()

    assert len(lines) == 2
    assert told(lines)[-1]["messaging.client.consumed.messages", ""] == 2


async def test_what_befell_the_line_to_a_broker_is_told_where_there_is_one() -> None:
    lines: list[bytes] = []
    plan = App("numbers", roles=[Actor]).plan()

    Telling(build(plan, 0, NOWHERE, "amqp://nobody@localhost"), None, lines.append).tell()

    assert told(lines)[0]["rolekit.broker.healed", ""] == 0
