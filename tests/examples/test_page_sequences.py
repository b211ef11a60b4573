"""The page about splits, gathers and streams, run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.testing import run_app
from tests.examples.pages import imported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

pytestmark = pytest.mark.anyio


@pytest.fixture
def shown() -> Iterator[ModuleType]:
    with imported("docs/how-to/sequences.md", "survey_page") as module:
        yield module


async def test_words_are_counted_and_quotes_printed_in_order(
    shown: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    async with run_app(shown.app, faults="shuffle", seed=2) as running:
        await running.client.send(shown.Survey(answers=["one two", "", "three"]))
        for cents in (995, 1001, 1010):
            await running.client.send(shown.Tick(cents=cents), stream="gold")
        await running.idle()

    assert running.seen(shown.Total) == [shown.Total(words=3)]
    assert capsys.readouterr().out.splitlines() == ["9.95", "10.01", "10.10"]
