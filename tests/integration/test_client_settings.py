"""A client from outside, and a role in the foreground, by what the settings say."""

from __future__ import annotations

import pytest

from rolekit import App, WorkerRole, wiring
from rolekit.config import Config

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]


class Worker(WorkerRole):
    """Does nothing."""


async def test_settings_win_over_the_code_where_a_process_is_on_its_own(
    database_url: str,
) -> None:
    app = App("alone", roles=[Worker], horizon_s=1000, results_s=100)
    settings = Config(database=database_url, horizon_s=5)

    async with wiring.open_client(app, settings) as client:
        plan = client._runtime.plan  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    assert (plan.horizon_s, plan.results_s) == (5, 100)
