"""What instances print: line by line, the last of it kept, and given to who follows."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import ConfigError
from rolekit.supervisor.control_logs import LogLine, LogsOrder
from rolekit.supervisor.journal import Journal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


async def texts(lines: AsyncIterator[LogLine]) -> list[str]:
    return [line.text async for line in lines]


async def a_while() -> None:
    """Let the loop read every pipe that has something."""
    for _ in range(3):
        await asyncio.sleep(0)


def printing(journal: Journal, role: str, instance: str) -> int:
    reading, writing = os.pipe()
    journal.read(role, instance, reading)
    return writing


async def test_pieces_become_lines_with_their_instance() -> None:
    shown: list[bytes] = []
    journal = Journal(shown.append)
    a, b = printing(journal, "A", "A/0"), printing(journal, "B", "B/3")

    os.write(a, b"one\ntw")
    await a_while()
    os.write(b, b"other\n")
    await a_while()
    os.write(a, b"o\nlast")
    os.close(a)
    os.close(b)
    journal.close()

    lines = [line async for line in journal.tell(LogsOrder())]
    assert [(line.instance, line.text) for line in lines] == [
        ("A/0", "one"),
        ("B/3", "other"),
        ("A/0", "two"),
        ("A/0", "last"),
    ]
    assert [line.number for line in lines] == [1, 2, 3, 4]
    assert shown == [b"one", b"other", b"two", b"last"]


async def test_lines_are_chosen_by_role_instance_and_message() -> None:
    journal = Journal(lambda _: None)
    for number, (role, slot) in enumerate((("A", 0), ("A", 1), ("B", 0))):
        journal.add(role, f"{role}/{slot}", f'{{"event": "x", "message": "m{number}"}}')

    assert len(await texts(journal.tell(LogsOrder()))) == 3
    assert len(await texts(journal.tell(LogsOrder(role="A")))) == 2
    assert len(await texts(journal.tell(LogsOrder(instance="A/1")))) == 1
    assert len(await texts(journal.tell(LogsOrder(message="m2")))) == 1
    assert await texts(journal.tell(LogsOrder(role="A", lines=1))) == [
        '{"event": "x", "message": "m1"}'
    ]


async def test_the_oldest_go_when_there_is_no_room() -> None:
    journal = Journal(lambda _: None, kept_bytes=3000)

    for number in range(100):
        journal.add("A", "A/0", f"{number} {'x' * 100}")

    kept = await texts(journal.tell(LogsOrder()))
    assert kept[-1].startswith("99 ")
    assert 5 <= len(kept) <= 10


async def test_who_follows_gets_what_comes_until_the_end() -> None:
    journal = Journal(lambda _: None)
    journal.add("A", "A/0", "before")
    following = journal.tell(LogsOrder(role="A", follow=True))

    first = await anext(following)
    journal.add("A", "A/0", "after")
    journal.add("B", "B/0", "another's")
    second = await anext(following)
    rest = asyncio.create_task(texts(following))
    await a_while()
    still = not rest.done()
    journal.close()

    assert (first.text, second.text) == ("before", "after")
    assert still
    assert await rest == []


async def test_who_leaves_is_forgotten() -> None:
    journal = Journal(lambda _: None)
    journal.add("A", "A/0", "x")
    following = journal.tell(LogsOrder(follow=True))
    await anext(following)

    assert journal.followers == 1
    await following.aclose()

    assert journal.followers == 0


async def test_an_instance_that_never_was_is_refused_and_one_that_was_is_not() -> None:
    journal = Journal(lambda _: None)
    journal.add("Work", "Work/5", "its last words")

    journal.look_for("Work/1", ["Work/0", "Work/1"])  # has said nothing yet
    journal.look_for("Work/5", ["Work/0", "Work/1"])  # is gone
    with pytest.raises(ConfigError, match="There is no instance Work/11, nor") as refusal:
        journal.look_for("Work/11", ["Work/0", "Work/1"])

    assert "Did you mean Work/1?" in str(refusal.value)
    assert "Work has 2, Work/0 to Work/1 now" in str(refusal.value)


@pytest.mark.parametrize(
    ("there", "now"), [([], "Work has none now"), (["Work/0"], "Work has Work/0 now")]
)
async def test_it_says_who_is_there(there: list[str], now: str) -> None:
    with pytest.raises(ConfigError, match=now):
        Journal(lambda _: None).look_for("Work/77", there)
