"""The page that a load test leaves, as somebody opens it: from a file, without a network."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.async_api import expect

from rolekit.load.arrivals import Poisson
from rolekit.load.capacity import Trial
from rolekit.load.client import Told
from rolekit.load.report import write
from rolekit.load.result import Checked, Mark, Recorder, RoleSeen, Seen
from rolekit.load.scenario import Http, Scenario
from rolekit.load.verdict import judge
from tests.browser.tabs import NARROW, WIDE, chromium, tab

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser

pytestmark = [pytest.mark.anyio, pytest.mark.browser, pytest.mark.timeout(90)]
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
                took_us=[900_000 if number % 40 == 0 else 3000 + number],
                end=[int(number % 300 == 0)],
                ways=["HTTP 503"],
                ids=[(0, number, f"m{number}", "")],
            ),
        )
    role = RoleSeen(role="Deliverer", running=4, waiting=9, in_hand=1, oldest_s=1, dead=0)
    recorder.seen = [Seen(at_s=second, roles=(role,)) for second in range(20)]
    recorder.marks = [Mark(at_s=8, text="kill -9 Deliverer/2")]
    result = recorder.result("run", NOON, "embedded")
    result.checked = Checked(notes=("100 mails.",))
    judge(result, recorder.total, scenario.wanted)
    trial = Trial(rate=50, measured=50, p50_us=3000, p99_us=9000, reasons=[])
    return write(result, [trial], tmp_path_factory.mktemp("report"))[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
async def test_the_report_tells_its_story_without_a_network(
    browser: Browser, report: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    async with tab(browser, "", width=width, scheme=scheme) as one:
        await one.page.context.set_offline(True)
        await one.page.goto(report.as_uri())

        await expect(one.page.locator(".verdict.bad")).to_contain_text("p99=250ms was missed")
        await expect(one.page.locator(".plot svg.main-svg").first).to_be_visible()
        plots = await one.page.locator(".plot .cartesianlayer").count()
        titles = await one.page.locator("h2").all_inner_texts()
        assert plots == 5
        assert {"Throughput", "Latency over time", "Instances", "Objectives"} <= set(titles)
        assert await one.page.get_by_text("kill -9 Deliverer/2").count() >= 2
        assert one.complaints == []
        assert await one.overflow() == 0
        assert await one.faint() == []
