"""A gather that dies after its first run: what others get of it, and what a replay does.

A chapter has three words. Its gather is given one at a time and dies of the second.
"""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import asyncpg
import pytest

from rolekit import (
    App,
    Backoff,
    Context,
    Hole,
    Message,
    Reject,
    Reply,
    Run,
    WorkerRole,
    gather,
    handle,
)
from rolekit.database import Database
from rolekit.store.postgres import PostgresStore
from rolekit.testing import Running, run_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

CHAPTERS = [["a", "b", "c"], ["d"]]
ONCE = Backoff(attempts=1)


class Book(Message):
    chapters: list[list[str]]


class Chapter(Message):
    words: list[str]


class Word(Message):
    text: str


class Inked(Message):
    text: str


class Bound(Message):
    text: str


class Shelf(Reply):
    texts: list[str]


class Press(WorkerRole):
    is_jammed: ClassVar[bool]

    @handle
    async def cut(self, book: Book) -> list[Chapter]:
        return [Chapter(words=words) for words in book.chapters]

    @handle
    async def read(self, chapter: Chapter) -> list[Word]:
        return [Word(text=text) for text in chapter.words]

    def bound(self, run: Run[Word], ctx: Context) -> list[Bound]:
        if self.is_jammed and run.offset:
            raise Reject("jammed")
        ctx.write("insert into bound values ($1)", run[0].text)
        return [Bound(text=word.text) for word in run if word.text]


class Dies(Press):
    @gather(size=1, retry=ONCE)
    async def join(
        self, chapter: Chapter, run: Run[Word], ctx: Context
    ) -> AsyncIterator[Bound]:
        for each in self.bound(run, ctx):
            yield each


class Holes(Dies):
    @gather
    async def shelve(self, book: Book, texts: list[Bound | Hole]) -> Shelf:
        return shelf(texts)


class Waits(Dies):
    @gather
    async def shelve(self, book: Book, texts: list[Bound]) -> Shelf:
        return shelf(texts)


class Fails(Press):
    """Its gather ends with the first word that is missing; the one around it waits."""

    @handle(retry=ONCE)
    async def ink(self, word: Word) -> Inked:
        if self.is_jammed and word.text == "b":
            raise Reject("jammed")
        return Inked(text=word.text)

    @gather(size=1, on_dead="fail")
    async def join(self, chapter: Chapter, run: Run[Inked]) -> AsyncIterator[Bound]:
        for each in run:
            yield Bound(text=each.text)

    @gather
    async def shelve(self, book: Book, texts: list[Bound]) -> Shelf:
        return shelf(texts)


def shelf(texts: list[Bound | Hole] | list[Bound]) -> Shelf:
    return Shelf(texts=[each.text if isinstance(each, Bound) else "-" for each in texts])


@asynccontextmanager
async def printed(
    press: type[Press], url: str, chapters: list[list[str]] = CHAPTERS
) -> AsyncGenerator[Shop]:
    """Send a book through a press that is jammed, and clear it then."""
    app = App("press", roles=[press])
    press.is_jammed = True
    connection = await asyncpg.connect(url)
    await connection.execute("create table bound (text text)")
    database = Database(url, app.name)
    try:
        async with run_app(app, database=url) as running:
            await running.client.send(Book(chapters=chapters))
            await running.idle()
            press.is_jammed = False
            yield Shop(running, PostgresStore(database, joins=False), connection)
    finally:
        await database.close()
        await connection.close()


@dataclass
class Shop:
    """An app that runs, what an operator has, and a look into the database."""

    running: Running
    store: PostgresStore
    connection: asyncpg.Connection

    async def replay(self, handler: str) -> None:
        """Replay the dead letters of a handler."""
        ids = [letter.id for letter in self.running.dead if letter.handler == handler]
        assert (await self.store.replay(ids, force=False)).fresh
        await self.running.idle()

    @property
    def shelves(self) -> list[list[str]]:
        """What came out."""
        return [each.texts for each in self.running.seen(Shelf)]

    async def bound(self) -> list[str]:
        """What took effect, in order."""
        return sorted(row["text"] for row in await self.connection.fetch("table bound"))


async def test_a_gather_that_dies_leaves_a_hole_behind_what_it_gave(
    rolekit_database: str,
) -> None:
    async with printed(Holes, rolekit_database) as shop:
        assert [letter.handler for letter in shop.running.dead] == ["Holes.join"]
        assert shop.shelves == [["a", "-", "d"]]


async def test_a_gather_that_dies_before_it_gave_anything_leaves_one_hole(
    rolekit_database: str,
) -> None:
    async with printed(Holes, rolekit_database, [["", "b"], ["d"]]) as shop:
        assert shop.shelves == [["-", "d"]]


async def test_its_replay_takes_effect_but_comes_too_late_for_who_took_the_hole(
    rolekit_database: str,
) -> None:
    async with printed(Holes, rolekit_database) as shop:
        await shop.replay("Holes.join")

        assert shop.shelves == [["a", "-", "d"]]
        assert await shop.bound() == ["a", "b", "c", "d"]
        assert len(shop.running.dead) == 1


async def test_its_replay_goes_on_where_it_stopped_for_who_waits(rolekit_database: str) -> None:
    async with printed(Waits, rolekit_database) as shop:
        before = shop.shelves

        await shop.replay("Waits.join")

        assert (before, shop.shelves) == ([], [["a", "b", "c", "d"]])
        assert await shop.bound() == ["a", "b", "c", "d"]


async def test_a_sequence_that_failed_is_made_whole_by_a_replay_of_its_split_for_who_waits(
    rolekit_database: str,
) -> None:
    async with printed(Fails, rolekit_database) as shop:
        before = shop.shelves

        await shop.replay("Fails.read")

        assert (before, shop.shelves) == ([], [["a", "b", "c", "d"]])
