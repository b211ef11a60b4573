"""The page that a load test leaves, as somebody opens it: from a file, without a network."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Literal

import msgspec
import pytest
from playwright.async_api import expect

from rolekit.load.arrivals import Poisson
from rolekit.load.capacity import Trial
from rolekit.load.client import Told
from rolekit.load.report import write
from rolekit.load.result import Checked, Mark, Recorder, RoleSeen, Seen
from rolekit.load.scenario import Http, Scenario
from rolekit.load.traced import Place, Stages, Telling, Traced
from rolekit.load.verdict import judge
from tests.browser.tabs import NARROW, WIDE, chromium, tab
from tests.unit.fakes_traces import NOON_NS, message_of, trace_of
from tests.unit.fakes_traces import request as a_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser

pytestmark = [pytest.mark.anyio, pytest.mark.browser, pytest.mark.timeout(180)]
HALO_PX = 6
"""So many pixels of a name are the edge around it, above and below."""
OPEN_MS = 90_000
"""It brings plotly along, which a busy machine reads for long."""
ABOUT = "A request is an order. It is done when it is paid."
PLACE = "postgresql://" + "a-long-name-of-a-database-server" * 4 + "/orders"
MARKS = [
    "kill -9 Deliverer/2 at 8.0 s",
    "restart the broker at 8.5 s",
    "false at 9.0 s",
    "restart all by turns at 17.0 s",
    "kill -9 Splitter/0 at 19.9 s",
]
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of a run in which some requests were slow, and some failed."""
    scenario = Scenario(
        name="evening",
        about=ABOUT,
        entry=Http(url="http://127.0.0.1:1/"),
        arrival=Poisson(rate=50),
        for_s=20,
        warm_up_s=2,
        objectives={"p99": "250ms"},
    )
    recorder = Recorder(scenario)
    for number in range(1000):
        recorder.take(
            0,
            Told(
                due_us=[number * 20_000],
                took_us=[900_000 + number if number % 40 == 0 else 3000 + number],
                end=[int(number % 300 == 0)],
                ways=[f"HTTP 503 from {'0' * 64}"],
                # The app's name for the slowest one is all that leads to its trace.
                ids=[(0, number, message_of(59) if number == 960 else f"m{number}", "")],
            ),
        )
    role = RoleSeen(role="Deliverer", running=4, waiting=9, in_hand=1, oldest_s=1, dead=0)
    recorder.seen = [Seen(at_s=second, roles=(role,)) for second in range(20)]
    recorder.marks = [
        Mark(at_s=8, text="kill -9 Deliverer/2"),
        Mark(at_s=8.5, text="restart the broker", took_s=4),
        Mark(at_s=9, text="false", problem="it ended with 1: "),
        Mark(at_s=17, text="restart all by turns", took_s=0.5),
        Mark(at_s=19.9, text="kill -9 Splitter/0"),
    ]
    result = recorder.result("run", NOON, PLACE)
    result.checked = Checked(notes=("100 mails.", f"There is no blob {'0' * 64}."))
    telling = Telling(
        start_ns=NOON_NS, for_s=20, warm_up_s=2, messages=(), started=(), now_ns=NOON_NS
    )
    for number in range(60):
        telling.take(a_request(number, at_s=2 + number * 0.3, queue_ms=10 + 7 * number))
    result.traced = telling.told()
    judge(result, recorder.total, scenario.wanted)
    trial = Trial(rate=50, measured=50, p50_us=3000, p99_us=9000, reasons=[])
    return write(result, [trial], tmp_path_factory.mktemp("report"))[0]


@pytest.mark.parametrize(("width", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
async def test_the_report_tells_its_story_without_a_network(
    browser: Browser, report: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    async with tab(browser, "", width=width, scheme=scheme) as one:
        await one.page.context.set_offline(True)
        await one.page.goto(report.as_uri(), timeout=OPEN_MS)

        await expect(one.page.locator(".verdict.bad")).to_contain_text("p99=250ms was missed")
        await expect(one.page.locator(".plot svg.main-svg").first).to_be_visible()
        await expect(one.page.locator("header")).to_contain_text(ABOUT)
        plots = await one.page.locator(".plot .cartesianlayer").count()
        latency = one.page.locator("section", has_text="Latency over time").first
        assert await latency.locator(".ytick").count() >= 3
        titles = await one.page.locator("h2").all_inner_texts()
        assert plots == 6
        assert {"Throughput", "Latency over time", "Instances", "Objectives"} <= set(titles)
        took = one.page.locator("section", has_text="What took most of it").first
        await expect(took.locator("tbody tr").first).to_contain_text("queueDeliverer.deliver")
        assert await one.page.evaluate(ABOVE, "Throughput") == (
            [mark.removesuffix(" s").rpartition(" at ")[0] for mark in MARKS]
            if width == WIDE
            else ["1", "2", "3", "4", "5"]
        )
        assert await one.page.locator(".marks li").all_inner_texts() == MARKS
        done = one.page.locator("section", has_text="What was done to the app").last
        assert [await row.inner_text() for row in await done.locator("tr").all()][-5:] == [
            "1\t8.0 s\tkill -9 Deliverer/2\t0 µs",
            "2\t8.5 s\trestart the broker\t4.00 s",
            "3\t9.0 s\tfalse: it ended with 1:\t0 µs",
            "4\t17.0 s\trestart all by turns\t500 ms",
            "5\t19.9 s\tkill -9 Splitter/0\t0 µs",
        ]
        assert await one.page.evaluate(SHADED, "Throughput") == [[0, 2], [8.5, 12.5]]
        # The first and the last second are not answered in themselves.
        assert await one.page.evaluate(DRAWN, "Throughput") == [
            [name, 1.5, 18.5] for name in ("answered", "offered", "failed")
        ]
        # An id is what leads to a trace: it begins in sight, however narrow the window.
        slow = one.page.locator("section", has_text="The slowest requests").locator("code")
        box = await slow.first.bounding_box()
        assert box is not None
        assert box["x"] < width - 100
        assert one.complaints == []
        assert await one.overflow() == 0
        assert await one.faint() == []
        assert await one.small() == []


async def test_names_of_marks_cover_no_other_and_end_inside_their_plot(
    browser: Browser, report: Path
) -> None:
    async with tab(browser, "") as one:
        await one.page.goto(report.as_uri(), timeout=OPEN_MS)
        await expect(one.page.locator(".plot svg.main-svg").first).to_be_visible()
        names = one.page.locator("section", has_text="Throughput").first.locator(".annotation")

        boxes = [await it.bounding_box() for it in await names.all() if await it.is_visible()]
        found = [box for box in boxes if box is not None]
        plot = await one.page.locator(".plot").first.bounding_box()
        assert plot is not None
        assert len(found) == 6
        for number, box in enumerate(found):
            assert plot["x"] <= box["x"] < box["x"] + box["width"] <= plot["x"] + plot["width"]
            for other in found[:number]:
                is_beside = (
                    box["x"] >= other["x"] + other["width"]
                    or other["x"] >= box["x"] + box["width"]
                )
                is_above = (
                    box["y"] >= other["y"] + other["height"] - HALO_PX
                    or other["y"] >= box["y"] + box["height"] - HALO_PX
                )
                assert is_beside or is_above, (box, other)


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """Write the page of a run in which something was done each second."""
    scenario = Scenario(
        name="rough", entry=Http(url="http://127.0.0.1:1/"), arrival=Poisson(rate=1), for_s=60
    )
    recorder = Recorder(scenario)
    recorder.marks = [Mark(at_s=second, text=f"kill -9 A/{second}") for second in range(60)]
    return write(recorder.result("run", NOON, "embedded"), [], tmp_path)[0]


async def test_so_many_marks_that_not_all_find_room_are_numbered_where_there_is_some(
    browser: Browser, crowded: Path
) -> None:
    async with tab(browser, "", width=NARROW) as one:
        await one.page.goto(crowded.as_uri(), timeout=OPEN_MS)

        above = await one.page.evaluate(ABOVE, "Throughput")
        assert above[:3] == ["1", "2", "3"]
        assert 20 < len(above) < 60
        await expect(one.page.locator(".marks li")).to_have_count(7)
        await one.page.get_by_role("link", name="and 54 more").click()
        await expect(one.page.locator("#done")).to_be_in_viewport()


async def test_the_slowest_traces_are_drawn_as_waterfalls(
    browser: Browser, report: Path
) -> None:
    async with tab(browser, "") as one:
        await one.page.goto(report.as_uri(), timeout=OPEN_MS)
        falls = one.page.locator("details.fall")

        await expect(falls).to_have_count(6)
        await expect(falls.first.locator("code")).to_have_text(trace_of(59))
        await expect(falls.first.locator("summary")).to_contain_text(
            "444 ms at 19.7 s; 423 ms of it queue at Deliverer.deliver"
        )
        slow = one.page.locator("section", has_text="The slowest requests").locator("tbody tr")
        assert await slow.nth(0).locator("code").all_inner_texts() == [
            message_of(59), trace_of(59)
        ]  # fmt: skip
        assert await slow.nth(1).locator("code").all_inner_texts() == ["m920", "\N{EN DASH}"]
        await falls.nth(1).locator("summary").click()
        await expect(falls.nth(1).locator(".name").last).to_be_visible()
        way, *steps = await falls.first.locator(".strip").all()
        assert len(steps) == 7
        # Where a bar stands is what is read off it: the queue begins when the parts were sent.
        strip, waited = await way.bounding_box(), await way.locator("i").nth(4).bounding_box()
        assert strip is not None
        assert waited is not None
        assert waited["width"] / strip["width"] == pytest.approx(423 / 444, abs=0.03)
        last = steps[-1].locator("i")
        assert [await part.get_attribute("title") for part in await last.all()] == [
            "queue: 423 ms, from +7.00 ms",
            "handler: 10.0 ms, from +430 ms",
            "commit: 2.00 ms, from +440 ms",
        ]


TWO_COMMITS = Traced(
    traces=27,
    bar_s=4,
    stages=[
        Stages(at_s=12, traces=2, us={"queue": 80_000, "commit": 60_000}),
        Stages(at_s=16, traces=6, us={"queue": 40_000, "commit": 20_000}),
        Stages(at_s=20, traces=9, us={"queue": 40_000, "commit": 60_000}),
        Stages(at_s=24, traces=7, us={"queue": 30_000, "commit": 60_000}),
        Stages(at_s=28, traces=3, us={"queue": 20_000, "commit": 60_000}),
    ],
    mean_us={"queue": 40_000, "commit": 60_000},
    places=[
        Place(stage="queue", where="A.take", us=40_000),
        Place(stage="commit", where="A.take", us=35_000),
        Place(stage="commit", where="B.take", us=25_000),
    ],
    slowest=[],
)


def calm_page(traced: Traced, folder: Path) -> Path:
    """Write the page of a run with eight requests a second, none of them late."""
    scenario = Scenario(
        name="calm",
        entry=Http(url="http://127.0.0.1:1/"),
        arrival=Poisson(rate=8),
        for_s=30,
        warm_up_s=15,
        objectives={"p50": "200ms", "p99": "1s", "max": "1000s"},
    )
    recorder = Recorder(scenario)
    for number in range(240):
        told = Told(due_us=[number * 125_000], took_us=[450_000], end=[0], ways=[], ids=[])
        recorder.take(0, told)
    result = recorder.result("run", NOON, "embedded")
    result.traced = traced
    result.machine |= {"processor": "AMD EPYC", "processors": "2"}
    result.versions["PostgreSQL"] = "18.4"
    judge(result, recorder.total, scenario.wanted)
    return write(result, [], folder)[0]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calm_page(TWO_COMMITS, tmp_path_factory.mktemp("calm"))


ABOVE = """title => {
    const card = [...document.querySelectorAll("section")].find(
        (it) => it.querySelector("h2").textContent === title);
    return card.querySelector(".plot").layout.annotations
        .map((it) => it.text).filter((it) => !it.startsWith("warm-up"));
}"""
"""What is written above the marks of a plot."""
SHADED = """title => {
    const card = [...document.querySelectorAll("section")].find(
        (it) => it.querySelector("h2").textContent === title);
    return card.querySelector(".plot").layout.shapes
        .filter((it) => it.type === "rect").map((it) => [it.x0, it.x1])
        .sort((one, other) => one[0] - other[0]);
}"""
"""From when until when a plot is shaded."""
DRAWN = """title => {
    const card = [...document.querySelectorAll("section")].find(
        (it) => it.querySelector("h2").textContent === title);
    const plot = card.querySelector(".plot");
    return plot.data.map((it) => [it.name, it.x[0], it.x[it.x.length - 1]]);
}"""
"""The lines of a plot by name, with where they begin and end."""
STACKED = """() => [...document.querySelectorAll("section")]
    .find((it) => it.querySelector("h2").textContent === "Where the time went")
    .querySelector(".plot").data.map((it) => [it.name, it.x.map(
        (x, n) => [x - it.width[n] / 1.88, x + it.width[n] / 1.88, it.y[n]].map(
            (value) => Math.round(value * 1000) / 1000))])"""
"""The stages of the stack: from when until when each bar is, and its milliseconds."""


async def test_a_run_with_few_requests_shows_only_lines_that_say_something(
    browser: Browser, calm: Path
) -> None:
    async with tab(browser, "") as one:
        await one.page.goto(calm.as_uri(), timeout=OPEN_MS)
        latency = one.page.locator("section", has_text="Latency over time").first

        # Of eight requests, the slowest is p90 and p99 too.
        assert await one.page.evaluate(DRAWN, "Latency over time") == [
            ["p50", 0, 29], ["slowest", 0, 29],
        ]  # fmt: skip
        assert await one.page.evaluate(DRAWN, "Throughput") == [
            ["answered", 2.5, 27.5], ["offered", 2.5, 27.5],
        ]  # fmt: skip
        through = one.page.locator("section", has_text="Throughput").first
        await expect(through).to_contain_text("each point the mean of 5 seconds")
        await expect(through).to_contain_text("requests/s, mean of 5 s")
        await expect(latency).to_contain_text("objective: p50 within 200 ms")
        await expect(latency).to_contain_text("objective: p99 within 1 s")
        await expect(latency).to_contain_text("The objective max=1000s is above what is drawn.")
        ticks = await latency.locator(".ytick text").all_text_contents()
        assert {"200", "500", "1,000"} <= set(ticks)
        tiles = await one.page.locator(".tile").all_inner_texts()
        assert tiles[0].split("\n") == ["8.0/s", "offered; 8.0/s answered"]
        assert tiles[2].endswith("99 % were faster (p99); objective 1 s")
        await expect(one.page.locator("header")).to_contain_text("AMD EPYC, 2 CPUs")
        await expect(one.page.locator("header")).to_contain_text(
            "database embedded (PostgreSQL 18.4) · queues in the database · seed"
        )


@pytest.mark.parametrize("width", [WIDE, NARROW])
async def test_what_the_grey_band_is_stands_above_it(
    browser: Browser, calm: Path, width: int
) -> None:
    async with tab(browser, "", width=width) as one:
        await one.page.goto(calm.as_uri(), timeout=OPEN_MS)
        through = one.page.locator("section", has_text="Throughput").first
        said = through.locator(".annotation", has_text="warm-up, not counted")
        label, area = (
            await said.bounding_box(),
            await through.locator(".plot .bglayer, .plot .gridlayer").first.bounding_box(),
        )

        assert label is not None
        assert area is not None
        assert label["y"] + label["height"] - HALO_PX <= area["y"]
        assert abs(label["x"] - area["x"]) < HALO_PX


async def test_what_took_most_is_what_the_stack_shows_most_of(
    browser: Browser, calm: Path
) -> None:
    async with tab(browser, "") as one:
        await one.page.goto(calm.as_uri(), timeout=OPEN_MS)
        went = one.page.locator("section", has_text="Where the time went").first

        # The largest place is a queue; the largest stage is that of commits at two places.
        await expect(went).to_contain_text(
            "Most of it, 60 %, was commit: the database (35 % at A.take alone)."
        )
        await expect(went).to_contain_text(
            "This is the mean of 27 traced requests; that of all 120, as the load test measured"
            " them, is 450 ms."
        )


async def test_no_bar_of_the_stack_is_the_sliver_that_the_warm_up_leaves_of_one(
    browser: Browser, calm: Path
) -> None:
    async with tab(browser, "") as one:
        await one.page.goto(calm.as_uri(), timeout=OPEN_MS)

        # Of the second from 15 to 16, two requests count, beside six of the bar after it; the
        # half of a bar that is left at the end stands by itself.
        drawn = await one.page.evaluate(STACKED)
        ends = [(15, 20), (20, 24), (24, 28), (28, 30)]
        assert drawn == [
            ["queue", [[*end, ms] for end, ms in zip(ends, (50, 40, 30, 20), strict=True)]],
            ["commit", [[*end, ms] for end, ms in zip(ends, (30, 60, 60, 60), strict=True)]],
        ]
        went = one.page.locator("section", has_text="Where the time went").first
        await expect(went).to_contain_text("Each bar is those that began in about 4 s.")


@pytest.fixture
def even(tmp_path: Path) -> Path:
    """Write the page of a run in which no stage took more than half of the time."""
    traced = msgspec.structs.replace(
        TWO_COMMITS, mean_us={"queue": 40_000, "handler": 15_000, "commit": 45_000}
    )
    return calm_page(traced, tmp_path)


async def test_less_than_half_of_the_time_is_not_most_of_it(
    browser: Browser, even: Path
) -> None:
    async with tab(browser, "") as one:
        await one.page.goto(even.as_uri(), timeout=OPEN_MS)

        went = one.page.locator("section", has_text="Where the time went").first
        await expect(went).to_contain_text("The largest part, 45 %, was commit: the database")


@pytest.fixture(params=["</script><script>document.title='x'</script>", "<b>x</b>"])
def evil(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """Write the page of a run whose app gave bad names to everything."""
    attack: str = request.param
    scenario = Scenario(
        name="evil", entry=Http(url="http://127.0.0.1:1/"), arrival=Poisson(rate=1), for_s=5
    )
    result = Recorder(scenario).result("run", NOON, "embedded")
    telling = Telling(
        start_ns=NOON_NS, for_s=20, warm_up_s=0, messages=(), started=(), now_ns=NOON_NS
    )
    telling.take([
        msgspec.structs.replace(
            span,
            name=attack,
            error=attack,
            detail=attack,
            instance=attack,
            attributes={**span.attributes, "messaging.destination.template": attack},
        )
        for span in a_request(1, at_s=1, queue_ms=10)
    ])  # fmt: skip
    result.traced = telling.told()
    return write(result, [], tmp_path)[0], attack


async def test_nothing_that_an_app_said_becomes_part_of_the_page(
    browser: Browser, evil: tuple[Path, str]
) -> None:
    page, attack = evil
    async with tab(browser, "") as one:
        await one.page.goto(page.as_uri(), timeout=OPEN_MS)
        await expect(one.page.locator("details.fall .name").nth(2)).to_contain_text(attack)

        assert await one.page.title() == "evil: passed"
        assert await one.page.locator("details.fall b").count() == 1
        assert one.complaints == []
