"""Tests of the programs, as a user writes them."""

from __future__ import annotations

import pytest

from rolekit import Blob
from rolekit.guest import Output
from rolekit.testing import FakeContext, batch_of, run_app, run_of, set_guest
from tests.typing.programs.bookings import Bookings, Remind, Reserve
from tests.typing.programs.bookings import app as bookings
from tests.typing.programs.letters import Issue, Posting, Postman, Printer, Returned
from tests.typing.programs.subtitles import (
    Caption,
    Editor,
    Film,
    Listener,
    Scene,
    Speech,
    Subtitled,
)

pytestmark = pytest.mark.anyio

NOTHING = Blob(id="b", size_bytes=1)


class FakeRecogniser:
    """Hears the same word in everything."""

    async def run(self, stdin: bytes, *args: str) -> Output:
        return Output(stdout=b"helo", stderr_tail=b"", status=0)


class FakeSpeller:
    """Knows one word."""

    async def ask(self, line: bytes) -> bytes:
        return b"hello"


async def test_a_reader_of_another_domain_is_returned() -> None:
    ctx = FakeContext()

    got = await Postman().post(Posting(reader="nobody", text=NOTHING), ctx)

    assert got == Returned(reader="nobody", why="no such reader")
    assert ctx.writes == []


async def test_an_issue_has_one_letter_per_reader() -> None:
    issue = Issue(editor="a@x", readers=["b@x", "c@x"], text=NOTHING)

    letters = [letter async for letter in Printer().letters(issue)]

    assert [letter.reader for letter in letters] == ["b@x", "c@x"]


async def test_the_last_run_says_done() -> None:
    run = run_of(Speech(text="one"), offset=4)

    out = [part async for part in Editor().stream(Film(title="t", reel=NOTHING), run)]

    assert out == [Caption(number=5, text="one"), Subtitled(title="t", scenes=5)]


async def test_a_scene_is_heard_and_spelt() -> None:
    role = Listener()
    set_guest(role, "recogniser", FakeRecogniser())
    set_guest(role, "speller", FakeSpeller())

    heard = await role.listen(Scene(sound=NOTHING), FakeContext())

    assert heard.text == "hello"


async def bookings_survive_repeats_and_crashes(rolekit_database: str) -> None:
    """Run a whole app; not collected here, since keys come with a later part."""
    async with run_app(
        bookings, database=rolekit_database, faults="repeat", settings={"Bank.api_key": "k"}
    ) as running:
        await running.client.send(Reserve(booking_id="1", visitor_id="7", cents=500))
        await running.kill(Bookings)
        await running.advance(90_000)

        assert [remind.booking_id for remind in running.seen(Remind)] == ["1"]
        assert running.dead == []


async def test_one_item_of_a_batch_is_retried_and_one_rejected() -> None:
    batch = batch_of("a", "b")

    batch.retry(0, delay_s=3)
    batch.reject(1, "bad")

    assert (batch[0], batch.ids[0]) == ("a", "m1")
    assert (batch.retries, batch.rejections) == ({0: 3}, {1: "bad"})
