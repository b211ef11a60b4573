"""Mailflow as somebody with a browser sees it, from the form to the mailbox."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Literal

import httpx
import pytest
from playwright.async_api import expect

from examples.mailflow import fleet
from examples.mailflow.samples import all_samples
from tests.browser.tabs import NARROW, WIDE, chromium, tab
from tests.examples.smtp_talk import ScriptedRelay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, FilePayload, Page, Route

pytestmark = [pytest.mark.anyio, pytest.mark.browser, pytest.mark.timeout(90)]

SENDER = "ada@mail.example"
SAMPLES = {sample.name: sample for sample in all_samples()}
FILE: FilePayload = {"name": "Übersicht.csv", "mimeType": "text/csv", "buffer": b"a;b\n"}
SLOW_MS = 30_000


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
async def relay() -> AsyncIterator[ScriptedRelay]:
    """The server for slow.example."""
    async with ScriptedRelay().running() as opened:
        yield opened


@pytest.fixture(scope="module")
async def mailflow(
    relay: ScriptedRelay, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[fleet.Fleet]:
    relayed = {"RELAY": relay.address, "RELAY_DOMAINS": "slow.example", "RELAY_STARTTLS": "no"}
    settings = {f"ROLEKIT_DELIVERER__{name}": value for name, value in relayed.items()}
    folder = tmp_path_factory.mktemp("home")
    home = fleet.Home(folder=folder, settings={**fleet.addresses(), **settings})
    async with fleet.running(home) as ready:
        yield ready


async def send(mailflow: fleet.Fleet, raw: bytes, *recipients: str) -> str:
    async with httpx.AsyncClient(base_url=mailflow.target.front) as http:
        query = {"sender": SENDER, "to": ",".join(recipients)}
        media_type = {"Content-Type": "message/rfc822"}
        answer = await http.post("/mail/raw", content=raw, params=query, headers=media_type)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


async def pids(mailflow: fleet.Fleet, role: str) -> list[int]:
    """Return the processes of a role."""
    view = await fleet.ps(mailflow.home)
    assert view is not None
    places = [place for one in view.roles if one.role == role for place in one.places]
    return [place.pid for place in places if place.pid is not None]


async def numbers(page: Page) -> list[int]:
    return [int(text) for text in await page.locator("#lines .place").all_inner_texts()]


async def until_closed(page: Page, copies: int) -> None:
    text = f"All {copies} delivered or bounced"
    await expect(page.locator("#count")).to_have_text(text, timeout=SLOW_MS)


async def test_a_mail_written_with_the_keyboard_alone_is_reported_live_and_delivered(
    browser: Browser, mailflow: fleet.Fleet
) -> None:
    async with tab(browser, mailflow.target.front) as opened:
        page, keyboard = opened.page, opened.page.keyboard
        await page.goto("/")
        while await opened.focused() != "sender":
            await keyboard.press("Tab")
        for text in (SENDER, "bob@mail.example x@far.example", "Minutes", "Here they are."):
            await keyboard.type(text)
            await keyboard.press("Tab")
        await page.set_input_files("#files", [FILE])  # the one thing that is the system's
        while await opened.focused() != "Send":
            await keyboard.press("Tab")
        await keyboard.press("Enter")

        await until_closed(page, 2)

        assert await page.locator("#lines .tag").all_inner_texts() == ["delivered", "bounced"]
        assert await page.locator("#sums > :visible").all_inner_texts() == [
            "1 delivered",
            "1 bounced",
        ]
        bar = page.locator("#parts")
        await expect(bar).to_have_attribute("viewBox", "0 0 2 1")
        for outcome, x in (("delivered", "0"), ("bounced", "1")):
            await expect(bar.locator(f".{outcome}")).to_have_attribute("x", x)
            await expect(bar.locator(f".{outcome}")).to_have_attribute("width", "1")
        await expect(page.locator("h1")).to_have_text("Minutes")
        await page.goto("/mailboxes/bob@mail.example")
        await page.get_by_role("link", name="Minutes").click()
        await expect(page.locator("pre")).to_have_text("Here they are.")
        await expect(page.locator(".files .name")).to_have_text("Übersicht.csv")
        await expect(page.locator(".files .hint")).to_contain_text("text/csv")
        assert not opened.complaints


async def test_a_report_goes_on_where_it_was_when_its_front_is_killed(
    browser: Browser, mailflow: fleet.Fleet, relay: ScriptedRelay
) -> None:
    people = [f"p{number:03}@mail.example" for number in range(600)]
    people[300] = "held@slow.example"
    fronts = await pids(mailflow, "MailFront")
    relay.gate.clear()
    async with tab(browser, mailflow.target.front) as opened:
        page = opened.page
        await page.goto(await send(mailflow, SAMPLES["plain"].raw, *people))
        await expect(page.locator("#lines > li")).to_have_count(300, timeout=SLOW_MS)
        underway = "300 of 600 delivered or bounced, 300 under way"
        await expect(page.locator("#count")).to_have_text(underway)
        await expect(page.locator("#sums > :visible").last).to_have_text("300 under way")
        await page.reload()  # as it comes from the server, the same
        await expect(page.locator("#count")).to_have_text(underway)
        await expect(page.locator("#parts .delivered")).to_have_attribute("width", "300")

        async with page.expect_request("**/live", timeout=SLOW_MS) as again:
            for pid in fronts:
                os.kill(pid, signal.SIGKILL)
        relay.gate.set()

        assert (await (await again.value).all_headers())["last-event-id"]
        await until_closed(page, len(people))
        assert await numbers(page) == list(range(1, 601))
        assert await page.locator("#lines .rcpt").all_inner_texts() == people
        await expect(page.locator("#trouble")).to_be_hidden()


async def test_lines_that_a_page_has_from_the_start_are_not_repeated(
    browser: Browser, mailflow: fleet.Fleet
) -> None:
    people = [f"q{number:02}@mail.example" for number in range(20)]
    path = await send(mailflow, SAMPLES["plain"].raw, *people)

    async def as_it_was_after_ten(route: Route) -> None:
        page = await route.fetch()
        ten, later = (await page.text()).split('<li><span class="place">11</span>')
        was = ten.replace('data-done="20"', 'data-done="10"')
        await route.fulfill(response=page, body=f"{was}</ol>{later.partition('</ol>')[2]}")

    async with tab(browser, mailflow.target.front) as opened:
        page = opened.page
        await page.goto(path)
        await until_closed(page, 20)
        await page.route(f"**{path}", as_it_was_after_ten)

        await page.reload()

        assert await page.locator("#live").get_attribute("data-done") == "10"
        await expect(page.locator("#lines > li")).to_have_count(20)
        assert await numbers(page) == list(range(1, 21))
        assert not opened.complaints


@pytest.mark.parametrize(("width", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
async def test_pages_fit_are_legible_and_leave_the_console_empty(
    browser: Browser,
    mailflow: fleet.Fleet,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    owner = f"eve-{scheme}@mail.example"
    names = ("html only", "unknown charset", "odd file names", "gtube", "virus")
    sent = [await send(mailflow, SAMPLES[name].raw, owner) for name in names]
    async with tab(browser, mailflow.target.front, width=width, scheme=scheme) as opened:
        page = opened.page
        for path in sent:
            await page.goto(path)
            await until_closed(page, 1)
        await page.goto(f"/mailboxes/{owner}")
        links = await page.locator(".rows a").all()
        found = [await link.get_attribute("href") or "" for link in links]
        assert len(found) == 4

        boxes = [f"/mailboxes/{name}" for name in (owner, "nobody-yet@mail.example")]
        for path in ["/", "/sent", "/mailboxes", *boxes, sent[-1], *found]:
            await page.goto(path)
            assert await opened.overflow() <= 0, path
            assert not await opened.faint(), path

        assert not opened.complaints


async def test_a_form_with_a_mistake_says_which_and_keeps_the_rest(
    browser: Browser, mailflow: fleet.Fleet
) -> None:
    async with tab(browser, mailflow.target.front) as opened:
        page = opened.page
        await page.goto("/")
        await page.fill("#sender", SENDER)
        await page.fill("#recipients", "bob@mail.example, broken@@x")
        await page.fill("#subject", "Minutes")

        await page.get_by_role("button", name="Send").click()

        await expect(page.get_by_role("alert")).to_be_focused()
        await page.get_by_role("alert").get_by_role("link").click()
        assert await opened.focused() == "recipients"
        await expect(page.locator("#subject")).to_have_value("Minutes")
        assert not await opened.faint()


async def test_without_scripts_all_but_the_movement_works(
    browser: Browser, mailflow: fleet.Fleet
) -> None:
    async with tab(browser, mailflow.target.front, has_scripts=False) as opened:
        page = opened.page
        people = [f"n{number:02}@mail.example" for number in range(60)]
        await page.goto("/")
        await page.fill("#sender", SENDER)
        await page.fill("#recipients", " ".join(people))
        await page.get_by_role("button", name="Send").click()
        await page.wait_for_url("**/mail/*")

        again = page.get_by_role("link", name="Load it again")
        await expect(again).to_be_visible()
        while await again.count():
            await again.click()

        await until_closed(page, 60)
        assert await numbers(page) == list(range(1, 61))
        await page.goto("/mailboxes/n59@mail.example")
        await page.locator(".rows a").first.click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("(no subject)")
        assert not opened.complaints
