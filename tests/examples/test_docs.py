"""What README and tutorial show runs, and gives what they say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from rolekit import App
from rolekit.guest.crew import guests_running
from rolekit.testing import run_app

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


def program(page: str, *, number: int = 0) -> str:
    """Take a program out of a page: its n-th block of Python."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return blocks[number]


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Import a program as its reader would."""
    page, name = request.param
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(program(page), page, "exec"), module.__dict__)  # noqa: S102 - our own pages
    yield module
    del sys.modules[name]


@pytest.mark.parametrize("shown", [("README.md", "shout")], indirect=True)
async def test_the_readme_program_gives_its_words_back_in_order(shown: ModuleType) -> None:
    words = [f"word{n}" for n in range(40)]

    async with run_app(shown.app, faults="shuffle", seed=3) as running:
        loud = await running.client.ask(shown.Text(words=words), shown.Loud)

    assert loud.text == " ".join(words).upper()


@pytest.mark.parametrize("shown", [("docs/tutorial.md", "words")], indirect=True)
async def test_the_tutorial_program_counts_letters(shown: ModuleType) -> None:
    async with run_app(shown.app, faults="repeat") as running:
        receipt = await running.client.send(shown.Text(words=["one", "two", "three"]))
        replies = [
            reply
            async for reply in running.client.follow(receipt, shown.Progress, until=shown.Total)
        ]

    assert replies[-1] == shown.Total(letters=11)
    assert replies[-2] == shown.Progress(done=3)


def test_every_link_of_the_pages_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert dead == []


@pytest.mark.parametrize("shown", [("docs/how-to/keys.md", "ordered")], indirect=True)
async def test_the_page_on_keys_shows_what_runs(shown: ModuleType) -> None:
    async with run_app(shown.app) as running:
        await running.client.send(shown.Place(customer_id="1", cents=500))
        await running.client.send(shown.Cancel(customer_id="1", cents=200))
        await running.idle()

        assert running.dead == []


@pytest.mark.parametrize("shown", [("docs/how-to/cron.md", "nightly")], indirect=True)
async def test_the_page_on_cron_shows_what_runs(shown: ModuleType) -> None:
    async with run_app(shown.app) as running:
        await running.advance(86_400)

        assert [rollup.day for rollup in running.seen(shown.Rollup)] == ["2027-01-16"]
        assert len([sql for sql, _ in running.writes if sql.startswith("delete")]) == 24


@pytest.mark.parametrize(("number", "role"), [(0, "Model"), (1, "Payments")])
def test_the_page_on_limits_shows_what_can_start(number: int, role: str) -> None:
    module = ModuleType("limits")
    sys.modules["limits"] = module
    text = program("docs/how-to/limits.md", number=number)
    exec(compile(text, "limits.md", "exec"), module.__dict__)  # noqa: S102 - our own pages

    assert App("limits", roles=[vars(module)[role]]).problems() == []
    del sys.modules["limits"]


@pytest.mark.parametrize("shown", [("docs/how-to/upgrades.md", "upgrades")], indirect=True)
async def test_the_page_on_upgrades_shows_what_takes_settings(shown: ModuleType) -> None:
    role = shown.Deliverer()

    assert await role.on_change({"domain": "example.com"})
    assert not await role.on_change({"relay": "mail.example.com"})


@pytest.mark.parametrize("shown", [("docs/how-to/guests.md", "legacy")], indirect=True)
async def test_the_page_on_guests_shows_what_runs(shown: ModuleType) -> None:
    async with run_app(shown.app) as running:
        told = await running.client.ask(shown.Page(text="b\nA\n"), shown.Sorted)

    assert told == shown.Sorted(text="A\nb\n", loud="DONE")


async def test_the_page_on_guests_shows_a_protocol_and_a_fake_that_work() -> None:
    server, texts, fake = ModuleType("server"), ModuleType("texts"), ModuleType("fake")
    for module, number in ((server, 1), (texts, 2), (server, 3), (fake, 4)):
        text = program("docs/how-to/guests.md", number=number)
        exec(compile(text, "guests.md", "exec"), module.__dict__)  # noqa: S102 - our own pages
    for guest in (server.archive, server.spamd):
        assert list(guest.speaks.problems_in(guest.host, guest.pool)) == []
    role = texts.Texts()

    async with guests_running(role):
        assert await role.counter.count(b"three words here") == 3

    legacy = ModuleType("legacy")
    exec(program("docs/how-to/guests.md"), legacy.__dict__)  # noqa: S102 - likewise
    tested = legacy.Legacy()
    fake.with_a_fake(tested)
    assert (await tested.sort.run(b"")).stdout == b"a\nb\n"
