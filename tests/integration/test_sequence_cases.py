"""Sequences, case by case: what a gather is handed, in memory and on Postgres.

A line of the table is an order of what each part does; a part does what its text says.
"""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from rolekit import (
    App,
    Backoff,
    Hole,
    Message,
    Reject,
    Reply,
    Retry,
    Run,
    WorkerRole,
    gather,
    handle,
)
from rolekit.flow.app_client import AppClient
from rolekit.model.reassembly import ClosedBy, Closing
from rolekit.store.base import Step
from rolekit.testing import Running, run_app

pytestmark = pytest.mark.anyio

ONCE = Backoff(attempts=1)


class Text(Message):
    words: list[str]


class Word(Message):
    text: str


class Said(Message):
    text: str


class Told(Reply):
    words: list[str]


def spoken(word: Word, *, healed: bool) -> Said | None:
    if word.text == "drop":
        return None
    if word.text == "die" and not healed:
        raise Reject("died")
    if word.text == "late":
        raise Retry("not yet", delay_s=300)
    return Said(text=word.text)


class Plain(WorkerRole):
    """Splits once; the parts are handled one by one."""

    healed: ClassVar[bool]

    @handle
    async def split(self, text: Text) -> list[Word]:
        return [Word(text=word) for word in text.words]

    @handle(retry=Backoff(attempts=2))
    async def say(self, word: Word) -> Said | None:
        return spoken(word, healed=self.healed)


class Waits(Plain):
    @gather
    async def tell(self, text: Text, words: list[Said]) -> Told:
        return Told(words=[word.text for word in words])


class Skips(Plain):
    @gather(on_dead="skip", deadline_s=60)
    async def tell(self, text: Text, words: list[Said]) -> Told:
        return Told(words=[word.text for word in words])


class Fails(Plain):
    @gather(on_dead="fail", deadline_s=60)
    async def tell(self, text: Text, words: list[Said]) -> Told:
        return Told(words=[word.text for word in words])


class Holes(Plain):
    @gather(deadline_s=60)
    async def tell(self, text: Text, words: list[Said | Hole]) -> Told:
        return Told(words=[w.reason if isinstance(w, Hole) else w.text for w in words])


class Runs(Plain):
    """Takes runs of two, and tells each with what came before and whether it is the last."""

    @gather(size=2)
    async def tell(self, text: Text, run: Run[Said]) -> Told:
        what = [str(run.offset), *(word.text for word in run), f"-{run.dropped}"]
        return Told(words=[*what, "end"] if run.is_last else what)


class Deep(WorkerRole):
    """A part may be split again, without a gather between: "a+b" becomes two."""

    healed: ClassVar[bool]

    @handle
    async def split(self, text: Text) -> AsyncIterator[Word]:
        for word in text.words:
            yield Word(text=word)

    @handle
    async def part(self, word: Word) -> list[Said]:
        return [Said(text=text) for text in word.text.split("+") if text != "drop"]

    @gather
    async def tell(self, text: Text, words: list[Said]) -> Told:
        return Told(words=[word.text for word in words])


class Line(Message):
    words: list[str]


class Lined(Message):
    text: str


class Shouted(Message):
    text: str


class Rows(WorkerRole):
    """Several gathers in a row: one closes lines, the next one takes what it gave."""

    healed: ClassVar[bool]

    @handle
    async def split(self, text: Text) -> list[Line]:
        return [Line(words=word.split("+")) for word in text.words]

    @handle
    async def words(self, line: Line) -> list[Word]:
        return [Word(text=word) for word in line.words]

    @handle(retry=ONCE)
    async def say(self, word: Word) -> Said | None:
        return spoken(word, healed=self.healed)

    @gather(on_dead="skip")
    async def line(self, line: Line, words: list[Said]) -> Lined:
        return Lined(text=" ".join(word.text for word in words))

    @handle
    async def shout(self, line: Lined) -> Shouted | None:
        return Shouted(text=line.text.upper()) if line.text else None

    @gather
    async def tell(self, text: Text, lines: list[Shouted]) -> Told:
        return Told(words=[line.text for line in lines])


@dataclass(frozen=True, kw_only=True)
class Case:
    """One order, and what comes of it.

    Attributes:
        role: Handles it.
        words: Of it.
        told: By the gather, call by call, when everything has come to rest.
        dead: Handlers of dead letters.
        later: What was told when two minutes had passed.
        healed: What was told when the dead had been replayed and did not die again.
    """

    role: type[WorkerRole]
    words: list[str]
    told: list[list[str]] = field(default_factory=list[list[str]])
    dead: list[str] = field(default_factory=list[str])
    later: list[list[str]] | None = None
    healed: list[list[str]] | None = None


CASES = {
    "all come": Case(role=Waits, words=["a", "b", "c"], told=[["a", "b", "c"]]),
    "none was split": Case(role=Waits, words=[], told=[[]]),
    "one is dropped": Case(role=Waits, words=["a", "drop", "c"], told=[["a", "c"]]),
    "all are dropped": Case(role=Waits, words=["drop", "drop"], told=[[]]),
    "a dead one is waited for": Case(
        role=Waits, words=["a", "die", "c"], dead=["say"], later=[], healed=[["a", "die", "c"]]
    ),
    "a dead one is skipped": Case(
        role=Skips, words=["a", "die", "c"], dead=["say"], told=[["a", "c"]],
        healed=[["a", "c"]],
    ),
    "all are dead and skipped": Case(
        role=Skips, words=["die", "die"], dead=["say", "say"], told=[[]]
    ),
    "a dead one is a hole": Case(
        role=Holes, words=["a", "die", "c"], dead=["say"], told=[["a", "dead-letter", "c"]],
        healed=[["a", "dead-letter", "c"]],
    ),
    "a dead one fails its split": Case(
        role=Fails, words=["a", "die", "c"], dead=["say", "split"], later=[],
        healed=[["a", "die", "c"]],
    ),
    "a late one is a hole at the deadline": Case(
        role=Holes, words=["a", "late", "c"], later=[["a", "deadline", "c"]]
    ),
    "late ones are skipped at the deadline": Case(
        role=Skips, words=["late", "b", "late"], later=[["b"]]
    ),
    "a late one fails its split at the deadline": Case(
        role=Fails, words=["a", "late"], later=[]
    ),
    "runs are full, then the rest": Case(
        role=Runs, words=["a", "b", "c", "drop", "d"],
        told=[["0", "a", "b", "-0"], ["2", "c", "d", "-1", "end"]],
    ),
    "an empty run is the last": Case(role=Runs, words=[], told=[["0", "-0", "end"]]),
    "parts are split again": Case(
        role=Deep, words=["a+b", "c", "d+e+f"], told=[["a", "b", "c", "d", "e", "f"]]
    ),
    "parts are split into nothing": Case(
        role=Deep, words=["drop", "a+drop", "drop"], told=[["a"]]
    ),
    "gathers stand in a row": Case(
        role=Rows, words=["a+b", "c", "drop", "d+die"], told=[["A B", "C", "D"]], dead=["say"]
    ),
}  # fmt: skip


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory"
    url: str = request.getfixturevalue("rolekit_database")
    return url


def app_of(role: type[WorkerRole]) -> App:
    role.healed = False  # type: ignore[attr-defined]
    return App("cases", roles=[role])


def told(running: Running) -> list[list[str]]:
    return [reply.words for reply in running.seen(Told)]


def sorted_runs(case: Case, found: list[list[str]]) -> list[list[str]]:
    """Runs are cut where parts happen to be missing: join them, where that is not the point."""
    if case.role is not Runs or not found:
        return found
    words = [word for run in found for word in run[1:] if word[0] != "-" and word != "end"]
    dropped = sum(-int(word) for run in found for word in run if word[0] == "-")
    return [[*words, f"-{dropped}", *found[-1][-1:]]]


@pytest.mark.parametrize("name", CASES)
async def test_what_a_gather_is_handed(database: str, name: str) -> None:
    case = CASES[name]
    async with run_app(app_of(case.role), database=database) as running:
        await running.client.send(Text(words=case.words))
        await running.idle()
        await running.advance(1)  # retries of what dies
        at_rest = told(running)
        dead = sorted(letter.handler.partition(".")[2] for letter in running.dead)
        if case.later is not None:
            await running.advance(120)
            assert told(running) == case.later
        if case.healed is not None:
            await heal(running, case)
            assert told(running) == case.healed

    assert sorted_runs(case, at_rest) == sorted_runs(case, case.told)
    if "fails its split at the deadline" not in name:
        assert dead == case.dead


async def heal(running: Running, case: Case) -> None:
    """Replay what died; a split is what failed last, so it alone."""
    case.role.healed = True  # type: ignore[attr-defined]
    last = running.dead[-1:] if case.role is Fails else running.dead
    store = running._store  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    commit = await store.replay([letter.id for letter in last], force=False)
    client = running.client
    assert isinstance(client, AppClient)
    client._intake._announce(commit)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    await running.idle()


async def test_a_deadline_outlives_who_set_it(rolekit_database: str) -> None:
    async with run_app(app_of(Holes), database=rolekit_database) as running:
        await running.client.send(Text(words=["a", "late"]))
        await running.idle()
        assert told(running) == []

    async with run_app(app_of(Holes), database=rolekit_database) as running:
        await running.advance(61)

        assert told(running) == [["a", "deadline"]]


async def test_late_repeated_and_conflicting_parts_change_nothing_and_are_counted(
    database: str,
) -> None:
    async with run_app(app_of(Runs), database=database) as running:
        await running.client.send(Text(words=["a", "die", "c"]))
        await running.idle()
        store = running._store  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        (flight,) = await store.flights(10)
        now_ms = running._clock.now_ms()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        for n, (index, body) in enumerate([(0, b"{}"), (2, b'{"text":"c"}'), (2, b"other")]):
            step = Step(id=f"{n:032x}", generation=0, birth_ms=now_ms)
            step.closings = [
                Closing(
                    sequence=flight.id, path=(index,), by=ClosedBy.PART, type="Said", body=body
                )
            ]
            await store.commit([step])
        (after,) = await store.flights(10)
        await heal(running, Case(role=Runs, words=[]))

        assert (after.late, after.repeated, after.conflicting) == (1, 2, 1)
        assert [word for run in told(running) for word in run if word.isalpha()] == [
            "a", "die", "c", "end",
        ]  # fmt: skip
