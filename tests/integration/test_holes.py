"""`rolekit holes`: what an operator is told of sequences that do not go on."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import pytest

from rolekit import (
    App,
    Backoff,
    Message,
    Reject,
    Reply,
    Retry,
    Run,
    WorkerRole,
    gather,
    handle,
)
from rolekit.testing import Running, run_app

pytestmark = pytest.mark.anyio


class Compose(Message):
    parts: list[str]


class Page(Message):
    words: list[str]


class Word(Message):
    text: str


class Said(Message):
    text: str


class Term(Message):
    text: str


class Uttered(Message):
    text: str


class Paged(Message):
    text: str


class Whole(Reply):
    text: str


class Writer(WorkerRole):
    @handle
    async def split(self, compose: Compose) -> list[Word | Page]:
        pages = [Page(words=part.split()) for part in compose.parts if " " in part]
        return [Word(text=part) for part in compose.parts if " " not in part] + pages

    @handle(retry=Backoff(attempts=8))
    async def say(self, word: Word) -> Said:
        if word.text == "busy":
            raise Retry("451", delay_s=500)
        if word.text == "dead":
            raise Reject("no such word")
        return Said(text=word.text)

    @handle
    async def turn(self, page: Page) -> list[Term]:
        return [Term(text=text) for text in page.words]

    @handle(retry=Backoff(attempts=8))
    async def utter(self, term: Term) -> Uttered:
        if term.text == "busy":
            raise Retry("451", delay_s=500)
        return Uttered(text=term.text)

    @gather
    async def paged(self, page: Page, words: list[Uttered]) -> Paged:
        return Paged(text=" ".join(word.text for word in words))

    @gather(retry=Backoff(attempts=5, first_s=500))
    async def whole(self, compose: Compose, run: Run[Said | Paged]) -> None:
        if any(isinstance(each, Said) and each.text == "broken" for each in run):
            raise Retry("printer", delay_s=300)


app = App("holes", roles=[Writer])


async def holes(url: str, *arguments: str) -> str:
    """Run the command; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if "ROLEKIT" not in name}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rolekit", "holes", "--app", f"{__name__}:app", *arguments,
        env={**kept, "ROLEKIT_DATABASE": url},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0
    return told.decode()


async def listed(url: str, *sent: list[str]) -> list[dict[str, Any]]:
    """Send these, wait until nothing moves, and return what `holes --json` says."""
    async with run_app(app, database=url) as running:
        await send(running, *sent)
        found: list[dict[str, Any]] = json.loads(await holes(url, "--json"))
    return found


async def send(running: Running, *sent: list[str]) -> None:
    for parts in sent:
        await running.client.send(Compose(parts=parts))
        await running.idle()


async def test_a_retry_says_which_attempt_and_when(rolekit_database: str) -> None:
    (line,) = await listed(rolekit_database, ["a", "busy", "c"])

    assert (line["of"], line["gather"]) == ("Compose", "Writer.whole")
    assert (line["blocked_at"], line["total"], line["released"]) == ("1", 3, 1)
    assert line["why"].startswith("Writer.say attempt 1 of 8, next in ")
    assert line["why"].endswith(" s (Retry: 451)")
    assert (line["where"], line["handler"]) == ("schedule", "Writer.say")
    assert 400 < line["due_in_s"] <= 500


async def test_a_dead_letter_is_named(rolekit_database: str) -> None:
    (line,) = await listed(rolekit_database, ["a", "dead"])

    assert line["blocked_at"] == "1"
    assert line["why"] == f"dead letter {line['dead_letter']}: no such word"


async def test_what_holds_up_a_sequence_within_holds_up_both(rolekit_database: str) -> None:
    lines = {line["of"]: line for line in await listed(rolekit_database, ["a", "b busy"])}

    outer, inner = lines["Compose"], lines["Page"]
    assert outer["why"].startswith("Writer.utter attempt 1 of 8")
    assert inner["why"].startswith("Writer.utter attempt 1 of 8")
    assert (outer["blocked_at"], inner["blocked_at"]) == ("1", "1")


async def test_a_gather_that_fails_is_what_holds_its_sequence_up(rolekit_database: str) -> None:
    (line,) = await listed(rolekit_database, ["broken"])

    assert line["why"].startswith("Writer.whole attempt 1 of 5, next in ")
    assert line["blocked_at"] == "0"


async def test_people_get_a_table(rolekit_database: str) -> None:
    async with run_app(app, database=rolekit_database) as running:
        await send(running, ["a", "busy", "c"], ["fine"])
        told = await holes(rolekit_database)

    heading, line = told.splitlines()
    assert heading.split() == ["SEQUENCE", "GATHER", "BLOCKED", "AT", "SINCE", "WHY"]
    assert line.startswith("Compose ")
    assert "Writer.whole" in line
    assert "1 of 3" in line


async def test_nothing_open_is_said(rolekit_database: str) -> None:
    async with run_app(app, database=rolekit_database) as running:
        await send(running, ["fine"])
        told = await holes(rolekit_database)

    assert told == "No sequence is open.\n"
