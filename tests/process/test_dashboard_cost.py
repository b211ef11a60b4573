"""What a dashboard costs whose app has 1,000 instances of 50 roles, with five pages open."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Self

import httpx
import psutil
import pytest

from tests.patience import patient
from tests.process.supervised import ROOT, eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

PAGES = 5
BAR = 0.03
"""Of a core, for the dashboard, and for what it makes the supervisor do."""
ECHO = """
from rolekit import App, Message, WorkerRole, handle
class Ask(Message):
    number: int
class Echo(WorkerRole):
    @handle
    async def take(self, ask: Ask) -> None: ...
app = App("shop", roles=[Echo])
"""


class Site:
    """A dashboard, and the supervisor that it asks, as processes."""

    def __init__(self, home: Path) -> None:
        (home / "shop.py").write_text(ECHO)
        self._home = home
        self._log = home / "log"
        self._environ = {
            **os.environ,
            "ROLEKIT_HOME": str(home),
            "PYTHONPATH": f"{ROOT}:{home}",
        }
        with self._log.open("w") as said:
            self.supervisor = self._start(
                "tests.process.made_up_supervisor", str(home / "shop.sock"), said=said
            )
            eventually(lambda: "answers" in self._log.read_text(), within_s=60)
            self.dashboard = self._start(
                "rolekit", "dashboard", "--bind", "127.0.0.1:0", said=said
            )
        eventually(lambda: "http://" in self._log.read_text(), within_s=60)
        found = re.search(r"http://127\.0\.0\.1:\d+", self._log.read_text())
        assert found is not None
        self.url = found[0]

    def _start(self, *module: str, said: IO[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=ROOT, env=self._environ, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.dashboard, self.supervisor):
            process.kill()
            process.wait()

    def spent_s(self) -> tuple[float, float]:
        """Say how many seconds of a core each has used: dashboard, supervisor."""
        times = [psutil.Process(p.pid).cpu_times() for p in (self.dashboard, self.supervisor)]
        first, second = (one.user + one.system for one in times)
        return first, second


async def look(
    site: Site, seconds: float, after_s: float = 0
) -> tuple[float, float, list[int]]:
    """Let five pages look, each at a role; return what was used a second, and what they got."""
    updates = [0] * PAGES

    async def page(number: int, http: httpx.AsyncClient) -> None:
        async with http.stream("GET", "/api/live") as live:
            async for line in live.aiter_lines():
                if line:
                    updates[number] += 1
                    await http.get(f"/api/roles/Role{number}")

    async with (
        httpx.AsyncClient(base_url=site.url, timeout=patient(60)) as http,
        asyncio.TaskGroup() as tasks,
    ):
        pages = [tasks.create_task(page(number, http)) for number in range(PAGES)]
        while min(updates) < 2:  # noqa: ASYNC110 - the first is dearer: all is opened
            await asyncio.sleep(0.05)
        await asyncio.sleep(after_s)
        before, begun = site.spent_s(), time.monotonic()
        already = list(updates)
        await asyncio.sleep(seconds)
        after, ended = site.spent_s(), time.monotonic()
        for one in pages:
            one.cancel()
    dashboard, supervisor = (
        (b - a) / (ended - begun) for a, b in zip(before, after, strict=True)
    )
    return dashboard, supervisor, [b - a for a, b in zip(already, updates, strict=True)]


@pytest.mark.load
@pytest.mark.timeout(300)
async def test_five_pages_on_a_thousand_instances_cost_three_percent_of_a_core(
    tmp_path: Path,
) -> None:
    with Site(tmp_path) as site:
        dashboard, supervisor, updates = await look(site, 100, after_s=12)

    print(f"dashboard {dashboard:.2%}, supervisor {supervisor:.2%}, updates {updates}")  # noqa: T201 - what is measured
    assert min(updates) >= 60
    assert dashboard + supervisor <= BAR


async def test_five_pages_are_told_the_same_and_cost_no_core(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        # What processes use is asked for at first, and 5 s later to see the difference.
        dashboard, supervisor, updates = await look(site, 4, after_s=10)

    assert min(updates) >= 1
    # A guard against work that grows with pages or instances; the bar is measured alone.
    assert dashboard + supervisor < 5 * BAR
