"""The dashboard as somebody with a browser sees it, with 1,000 instances of 50 roles."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.async_api import expect

from rolekit.dashboard.drawing import OUTSIDE, Arrow, Box, Drawing, Handling
from rolekit.dashboard.pages import Options
from tests.browser.board import ATTACK, LETTER, TRACE, MadeUpConsole, MadeUpFleet, board
from tests.browser.tabs import NARROW, WIDE, chromium, tab

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.anyio, pytest.mark.browser, pytest.mark.timeout(90)]


COVERED = """() => {
    const boxes = [...document.querySelectorAll("#drawing .role")].map((it) => [
        it.getAttribute("aria-label"), it.querySelector(".box").getBoundingClientRect(),
    ]);
    const meet = (a, b) =>
        a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    return boxes.flatMap(([name, a], n) =>
        boxes.slice(n + 1).filter(([, b]) => meet(a, b)).map(([other]) => `${name}, ${other}`));
}"""
"""Boxes of the drawing that cover each other, by pairs."""
SCALE = """() => {
    const drawn = document.querySelector("#drawing svg");
    return drawn.clientWidth / drawn.viewBox.baseVal.width;
}"""
"""How large a drawing is shown: at 1, letters are as high as those around it."""


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


@pytest.fixture
def fleet() -> MadeUpFleet:
    return MadeUpFleet()


@pytest.fixture
def console() -> MadeUpConsole:
    return MadeUpConsole()


async def shown(page: Page, name: str) -> str:
    """Return what the page says of its updates."""
    return await page.locator("html").get_attribute(name) or "0"


async def sideways(page: Page, place: str) -> int:
    """Return how many pixels of an element are to be scrolled to, sideways."""
    found: int = await page.locator(place).evaluate("it => it.scrollWidth - it.clientWidth")
    return found


async def has_own_line(page: Page, cell: str) -> bool:
    """Tell whether a cell is as wide as its row."""
    found: bool = await page.locator(cell).first.evaluate(
        "it => it.offsetWidth === it.parentElement.offsetWidth"
    )
    return found


async def lines(page: Page, cell: str) -> int:
    """Return in how many lines a cell has its text."""
    found: int = await page.locator(cell).first.evaluate("""it => {
        const range = document.createRange();
        range.selectNodeContents(it);
        return new Set([...range.getClientRects()].map((box) => box.top)).size;
    }""")
    return found


async def next_update(page: Page) -> None:
    """Wait until the page has shown what came next."""
    before = await shown(page, "data-updates")
    await expect(page.locator("html")).not_to_have_attribute("data-updates", before)


@pytest.mark.parametrize(("width", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
async def test_all_views_are_readable_and_nothing_in_them_runs(
    browser: Browser,
    fleet: MadeUpFleet,
    console: MadeUpConsole,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    async with (
        board(Options(), fleet, console) as site,
        tab(browser, site, width=width, scheme=scheme) as one,
    ):
        page = one.page
        await page.goto("/")
        await expect(page.locator("#state")).to_have_text("in trouble")
        await expect(page.locator("#roles tbody tr")).to_have_count(50)
        assert await one.faint() == []
        await expect(page.locator("#drawing .role")).to_have_count(50)
        assert await sideways(page, "#drawing") == 0
        await page.locator("#roles tbody tr", has_text="Role7").first.click()
        await expect(page.locator("#role-said")).to_contain_text(ATTACK)
        await expect(page.locator("#places tbody tr")).to_have_count(20)
        lag = page.locator("#places tbody tr").first.locator("td").nth(5)
        await expect(lag).to_have_text("234 ms")
        assert await one.overflow() == 0
        assert await one.small() == []
        await page.get_by_role("link", name="Sequences").click()
        await expect(page.locator("#holes tbody tr")).to_contain_text("111 of 240")
        assert await one.overflow() == 0
        assert await one.small() == []
        assert await has_own_line(page, "#holes td.why") == (width == NARROW)
        await page.get_by_role("link", name="Dead letters").click()
        await page.locator("#letters tbody tr").click()
        await page.get_by_role("button", name="Show the message").click()
        await expect(page.locator("#letter pre").first).to_contain_text(ATTACK)
        assert await one.overflow() == 0
        assert await one.small() == []
        assert await has_own_line(page, "#letters td.why") == (width == NARROW)
        assert await lines(page, "#letters td.what") == 1
        assert await sideways(page, ".scroll:has(> #letters)") == 0
        await page.get_by_role("link", name="Traces").click()
        await page.locator("#trace-list tbody tr").click()
        await expect(page.locator("#trace .spans")).to_contain_text(f"process {ATTACK}")
        if width == NARROW:  # what went wrong is in sight, as nothing hovers there
            assert await sideways(page, "#trace .name.bad") == 0

        assert await one.faint() == []
        assert await one.overflow() == 0
        assert await one.small() == []
        assert await page.get_by_role("button", name="Scale").count() == 0
        assert one.complaints == []


async def test_a_drawing_turns_with_its_window_and_no_box_covers_another(
    browser: Browser, fleet: MadeUpFleet, console: MadeUpConsole
) -> None:
    async with (
        board(Options(), fleet, console, columns=4) as site,
        tab(browser, site) as one,
    ):
        page = one.page
        await page.goto("/#traces")  # drawn when its view is opened
        await page.get_by_role("link", name="Pipeline").click()
        for width in (NARROW, 1600, NARROW):
            await page.set_viewport_size({"width": width, "height": 800})
            await expect(page.locator("#drawing")).to_have_attribute(
                "data-runs", "down" if width == NARROW else "across"
            )

            assert await sideways(page, "#drawing") == 0
            assert await page.locator("#drawing .role").count() == 50
            assert await page.evaluate(COVERED) == []
            assert await page.evaluate(SCALE) >= 0.75
        assert one.complaints == []


TAKES = (Handling(name="take", kind="handle", takes=("Order",)),)
SHOP = Drawing(
    boxes=(
        Box(role="Front", column=0, row=0, handlers=()),
        Box(role="Splitter", column=0, row=1, handlers=TAKES),
        Box(role="Deliverer", column=1, row=0, handlers=TAKES),
    ),
    arrows=(
        Arrow(sender=OUTSIDE, taker="Splitter", names=("shop.order",)),
        Arrow(
            sender="Splitter", taker="Deliverer", names=("Delivered", "Bounced"), is_split=True
        ),
        Arrow(
            sender="Deliverer", taker=OUTSIDE, names=("Progress", "Report", "Summary", "End")
        ),
    ),
)  # fmt: skip
LABELS = """() => [...document.querySelectorAll("#drawing text.name")].map((it) => [
    [...it.querySelectorAll("tspan")].map((line) => line.textContent),
    it.querySelector("title").textContent,
])"""
"""What arrows are called, by lines, and what hovering over it tells."""
ENDS = """() => {
    const box = name => document.querySelector(`#drawing [aria-label=${name}] .box`).getBBox();
    const [front, splitter, deliverer] = ["Front", "Splitter", "Deliverer"].map(box);
    return [...document.querySelectorAll("#drawing path.arrow")].map((line) => {
        const ends = [0, line.getTotalLength()].map((at) => line.getPointAtLength(at));
        const touched = ends.map(({x}) => x < front.x - 8 ? "before Front"
            : x < front.x + 2 ? "Front" : x <= front.x + front.width + 1 ? "after Front"
            : x < splitter.x + 2 ? "Splitter" : x <= splitter.x + splitter.width + 1
            ? "after Splitter" : x < deliverer.x + 2 ? "Deliverer"
            : x <= deliverer.x + deliverer.width + 1 ? "after Deliverer" : "behind all");
        return [...touched, line.getAttribute("marker-end")];
    });
}"""
"""Where each arrow begins and ends from left to right, and what its end looks like."""


async def test_arrows_tell_what_flows_from_outside_to_outside(
    browser: Browser, fleet: MadeUpFleet, console: MadeUpConsole
) -> None:
    async with (
        board(Options(), fleet, console, drawing=SHOP) as site,
        tab(browser, site) as one,
    ):
        await one.page.goto("/")
        await expect(one.page.locator("#drawing .role")).to_have_count(3)

        assert await one.page.evaluate(LABELS) == [
            [["order"], "shop.order"],
            [["⇉ Delivered,", "Bounced"], "Delivered, Bounced"],
            [["Progress,", "Report +2"], "Progress, Report, Summary, End"],
        ]
        # What is drawn later covers: no line crosses the name of another.
        assert await one.page.locator("#drawing text.name ~ path.arrow").count() == 0
        assert sorted(await one.page.evaluate(ENDS)) == [
            ["after Deliverer", "behind all", "url(#tip)"],
            ["after Front", "Splitter", "url(#tip)"],
            ["after Splitter", "Deliverer", "url(#tip)"],
            ["before Front", "Front", "url(#tip)"],
        ]
        assert one.complaints == []


CHECKS = Drawing(
    boxes=(
        Box(role="Inspector", column=0, row=0, handlers=TAKES),
        Box(role="Deliverer", column=1, row=0, handlers=TAKES),
    ),
    arrows=(
        Arrow(
            sender="Inspector", taker="Inspector", names=("Attachment", "Verdict"),
            is_split=True,
        ),
        Arrow(sender="Inspector", taker="Deliverer", names=("Deliver",)),
    ),
)  # fmt: skip


async def test_what_a_role_sends_to_itself_is_not_named_where_its_arrow_down_is(
    browser: Browser, fleet: MadeUpFleet, console: MadeUpConsole
) -> None:
    async with (
        board(Options(), fleet, console, drawing=CHECKS) as site,
        tab(browser, site, width=NARROW) as one,
    ):
        await one.page.goto("/")
        names = one.page.locator("#drawing text.name")
        await expect(names).to_have_count(2)
        boxes = [await name.bounding_box() for name in await names.all()]
        itself, down = [box for box in boxes if box is not None]
        assert itself["x"] > down["x"] + down["width"]
        assert itself["x"] + itself["width"] < NARROW
        assert await sideways(one.page, "#drawing") == 0


async def test_the_row_under_the_pointer_is_marked_as_a_whole(
    browser: Browser, fleet: MadeUpFleet, console: MadeUpConsole
) -> None:
    colour = "it => getComputedStyle(it).backgroundColor"
    async with (
        board(Options(), fleet, console) as site,
        tab(browser, site, width=NARROW) as one,
    ):
        await one.page.goto("/")
        row = one.page.locator("#roles tbody tr").nth(2)
        name = row.locator("td").first  # it stays in sight, over the others
        before = await name.evaluate(colour)

        await row.hover()

        assert await name.evaluate(colour) == await row.evaluate(colour) != before


async def test_figures_say_what_they_count_and_nothing_is_not_unknown(
    browser: Browser, fleet: MadeUpFleet, console: MadeUpConsole
) -> None:
    async with board(Options(), fleet, console) as site, tab(browser, site) as one:
        await one.page.goto("/")
        total = one.page.locator("#totals div", has_text="messages handled/s")
        await expect(total).to_have_attribute("title", re.compile("By all roles together"))
        for name in ("CPU", "memory"):  # the table has no row for the supervisor
            total = one.page.locator("#totals div", has_text=f"{name} with supervisor")
            await expect(total).to_be_visible()
        for name in ("In hand", "Waiting", "Oldest", "Dead letters"):
            head = one.page.locator("#roles th", has_text=name)
            await expect(head).to_have_attribute("title", re.compile("."))
        # One of Role3 is being replaced.
        box = one.page.locator("#drawing [aria-label=Role3]")
        await expect(box.get_by_text("21 ready", exact=True)).to_be_visible()
        # Role0 has queues, and nothing waits in them.
        cells = one.page.locator("#roles tbody tr", has_text=re.compile("^Role0")).locator("td")
        assert await cells.nth(4).inner_text() == "0"
        assert await cells.nth(5).inner_text() == "0"


async def test_an_update_with_a_thousand_instances_takes_a_tenth_of_a_second_at_most(
    browser: Browser, fleet: MadeUpFleet, console: MadeUpConsole
) -> None:
    async with board(Options(), fleet, console) as site, tab(browser, site) as one:
        await one.page.goto("/")
        await one.page.locator("#roles tbody tr").first.click()
        took: list[float] = []
        for _ in range(5):
            await next_update(one.page)
            took.append(float(await shown(one.page, "data-update-ms")))

        # The quickest: a busy machine interrupts some.
        assert min(took) < 100


async def test_five_pages_ask_the_supervisor_once_a_second_together(
    browser: Browser, fleet: MadeUpFleet, console: MadeUpConsole
) -> None:
    async with board(Options(), fleet, console) as site, tab(browser, site) as one:
        await one.page.goto("/")
        pages = [await one.page.context.new_page() for _ in range(4)]
        for page in pages:
            await page.goto(site)
        before, begun_s = fleet.asked, time.monotonic()
        for _ in range(3):
            await next_update(one.page)
        passed_s = time.monotonic() - begun_s

        # Each on its own would ask five times a second; a busy machine updates more seldom.
        assert fleet.asked - before <= 2 * passed_s + 2


async def test_changes_are_made_by_keyboard_and_mouse_where_they_are_allowed(
    browser: Browser, fleet: MadeUpFleet, console: MadeUpConsole
) -> None:
    options = Options(may_change=True)
    async with board(options, fleet, console) as site, tab(browser, site) as one:
        page = one.page
        page.on("dialog", lambda dialog: dialog.accept())
        await page.goto("/")
        rows = page.locator("#roles tbody tr")
        await expect(rows.first).to_contain_text("Role7")  # it is in trouble
        await rows.nth(1).focus()
        await page.keyboard.press("Space")
        await page.get_by_role("button", name="Scale").click()
        await expect(page.locator("#notice")).to_contain_text("Say 5, +2 or -2.")
        await page.locator("#role-count").fill("30")
        await page.get_by_role("button", name="Scale").click()
        await expect(page.locator("#notice")).to_have_text("Role0: 30 instances.")
        await page.get_by_role("button", name="Restart").click()
        await expect(page.locator("#notice")).to_have_text("Role0 was restarted.")
        await page.get_by_role("link", name="Dead letters").click()
        await page.locator("#letters tbody tr").click()
        await page.get_by_role("button", name="Send again").click()
        await expect(page.locator("#notice")).to_have_text("It was sent again.")

    assert fleet.told == [("Role0", "30"), ("Role0", "restart")]
    assert console.told == [("replay", [LETTER.id])]


async def test_a_trace_is_found_by_its_id_and_one_that_is_not_there_is_said(
    browser: Browser, fleet: MadeUpFleet, console: MadeUpConsole
) -> None:
    async with board(Options(), fleet, console) as site, tab(browser, site) as one:
        await one.page.goto("/#traces")
        await one.page.get_by_label("Trace or message id").fill("nothing")
        await one.page.keyboard.press("Enter")
        await expect(one.page.locator("#notice")).to_have_text("No such trace is kept.")
        await one.page.get_by_label("Trace or message id").fill(TRACE)
        await one.page.keyboard.press("Enter")
        await expect(one.page.locator("#trace h2")).to_contain_text(TRACE)


async def test_with_a_token_the_page_asks_for_it_first(
    browser: Browser, fleet: MadeUpFleet, console: MadeUpConsole
) -> None:
    options = Options(token="t" * 32)
    async with board(options, fleet, console) as site, tab(browser, site) as one:
        await one.page.goto("/")
        await one.page.get_by_label("Token").fill("t" * 32)
        await one.page.get_by_role("button", name="Look inside").click()
        await expect(one.page.locator("#app")).to_have_text("shop")
