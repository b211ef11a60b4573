"""The page about Celery's canvas, run: the app that is shown, and what Celery makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.testing import run_app
from tests.examples.pages import imported
from tests.examples.peers import ran

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

URLS = ["http://a/long", "x", "slow:one", "http://b"]
CELERY = """
from celery import Celery, chord, group

app = Celery("albums", broker="memory://", backend="cache+memory://")
app.conf.task_always_eager = app.conf.task_store_eager_result = True
tried = set()

@app.task(bind=True, max_retries=3)
def fetch(self, url):
    if url.startswith("slow:") and url not in tried:
        tried.add(url)
        raise self.retry(countdown=0)
    return len(url)

@app.task
def shrink(size):
    return size // 2 if size > 3 else None

@app.task
def montage(sizes):
    return [size for size in sizes if size is not None]

urls = {urls}
print(chord(group(fetch.s(url) | shrink.s() for url in urls), montage.s()).apply().get())
"""


@pytest.fixture
def shown() -> Iterator[ModuleType]:
    with imported("docs/how-to/from-celery.md", "albums_page") as module:
        yield module


async def test_the_types_give_what_the_canvas_gave(shown: ModuleType, tmp_path: Path) -> None:
    theirs = await ran(tmp_path, CELERY.format(urls=URLS))

    async with run_app(shown.app, faults="shuffle", seed=5) as running:
        receipt = await running.client.send(shown.Album(urls=URLS))
        await running.advance(60)
        montage = await running.client.result(receipt, shown.Montage)

    assert montage is not None
    assert str(montage.sizes) == theirs.strip()
    assert montage.sizes == [6, 4, 4]
