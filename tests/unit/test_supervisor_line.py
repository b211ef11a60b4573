"""A supervisor's end of a line: messages whole and in order, however they come."""

from __future__ import annotations

import asyncio
import socket

import pytest
from structlog.testing import capture_logs

from rolekit import link
from rolekit.supervisor.heard import LONGEST_BYTES, Line
from rolekit.supervisor.rounds import EVERY_S, Rounds

pytestmark = [pytest.mark.anyio]

ENDING = link.Ending("it had enough")


async def opened() -> tuple[Line, socket.socket]:
    ours, theirs = socket.socketpair()
    return await Line.open("Work/0", ours), theirs


async def heard_of(said: list[bytes], line: Line, theirs: socket.socket) -> list[object]:
    heard: list[object] = []
    line.listen(heard.append)
    with theirs:
        for part in said:
            theirs.sendall(part)
            await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await line.is_over.wait()
    return heard


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_messages_are_heard_whole_however_they_are_cut(size: int) -> None:
    line, theirs = await opened()
    said = link.encode(link.Ready()) + link.encode(ENDING)
    parts = [said[at : at + size] for at in range(0, len(said), size)]

    assert await heard_of(parts, line, theirs) == [link.Ready(), ENDING]


async def test_what_came_before_anybody_listened_is_heard_first() -> None:
    line, theirs = await opened()
    theirs.sendall(link.encode(link.Ready()))
    for _ in range(3):  # turns of the loop, in which it is read
        await asyncio.sleep(0)

    assert await heard_of([link.encode(ENDING)], line, theirs) == [link.Ready(), ENDING]


@pytest.mark.parametrize("is_read_in_rounds", [False, True])
async def test_who_is_told_something_after_it_died_is_heard_to_its_end(
    *, is_read_in_rounds: bool
) -> None:
    line, theirs = await opened()
    heard: list[object] = []
    line.listen(heard.append)
    if is_read_in_rounds:
        line.read_in(Rounds())
    line.transport.write(b"not read")  # so that the line ends with a reset
    theirs.sendall((link.encode(link.Ready()) + link.encode(ENDING)) * 2000)
    theirs.close()

    line.transport.write(b"nobody is there")

    async with asyncio.timeout(5):
        await line.is_over.wait()
    assert heard == [link.Ready(), ENDING] * 2000


async def test_what_is_not_understood_is_passed_over() -> None:
    line, theirs = await opened()

    assert await heard_of([b"{]\n", link.encode(ENDING)], line, theirs) == [ENDING]


async def test_who_says_no_end_is_hung_up_on() -> None:
    line, theirs = await opened()
    line.listen(lambda _: None)
    theirs.setblocking(False)  # noqa: FBT003 - the only way to say it

    with theirs:
        async with asyncio.timeout(5):
            await asyncio.get_running_loop().sock_sendall(theirs, b"x" * (LONGEST_BYTES + 1))
            await line.is_over.wait()


async def test_a_line_that_is_read_in_rounds_is_heard_whole_to_its_end() -> None:
    line, theirs = await opened()
    heard: list[object] = []
    line.listen(heard.append)
    rounds = Rounds()
    said = link.encode(link.Ready())

    with theirs:
        line.read_in(rounds)
        for part in (said + said[:5], said[5:]):
            theirs.sendall(part)
            await asyncio.sleep(EVERY_S * 2)
        before = list(heard)
        theirs.sendall(link.encode(ENDING))
    line.read_at_once()
    async with asyncio.timeout(5):
        await line.is_over.wait()

    assert before == [link.Ready()] * 2
    assert heard == [*before, ENDING]


async def test_a_line_that_is_read_in_rounds_sees_that_the_other_end_was_closed() -> None:
    line, theirs = await opened()
    line.listen(lambda _: None)
    line.read_in(Rounds())

    theirs.close()

    async with asyncio.timeout(5):
        await line.is_over.wait()


async def test_what_cannot_be_taken_from_one_ends_no_rounds() -> None:
    rounds = Rounds()
    (bad, from_bad), (good, from_good) = await opened(), await opened()
    heard: list[object] = []

    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    for line, hear in ((bad, fail), (good, heard.append)):
        line.listen(hear)
        line.read_in(rounds)
    with from_bad, from_good, capture_logs() as logged:
        for theirs in (from_bad, from_good, from_good):
            theirs.sendall(link.encode(ENDING))
            await asyncio.sleep(EVERY_S * 2)
        for line in (bad, good):
            line.transport.abort()

    assert heard == [ENDING, ENDING]
    assert [entry["event"] for entry in logged] == ["what an instance said could not be taken"]


async def test_many_that_speak_one_after_another_are_heard_in_few_turns_of_the_loop() -> None:
    rounds, turns = Rounds(), set[int]()
    turn = 0
    lines = [await opened() for _ in range(20)]
    for line, _ in lines:
        line.listen(lambda _: turns.add(turn))
        line.read_in(rounds)

    for _, theirs in lines:
        theirs.sendall(link.encode(ENDING))
        turn += 1
        await asyncio.sleep(EVERY_S / 20)
    await asyncio.sleep(EVERY_S * 2)
    for line, theirs in lines:
        theirs.close()
        line.transport.abort()

    assert 0 < len(turns) <= 10
