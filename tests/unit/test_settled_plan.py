"""Settings that replace what an app says in code, as they reach the parts of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit import App, WorkerRole
from rolekit.config import load
from rolekit.wiring.parts import build, settled

if TYPE_CHECKING:
    from pathlib import Path


class Worker(WorkerRole):
    """Does nothing."""


app = App("settled", roles=[Worker], horizon_s=1000, results_s=100)


@pytest.mark.parametrize(
    ("file", "environ", "sets", "expected"),
    [
        ("", {}, [], (1000, 100)),
        ("horizon_s = 2000", {}, [], (2000, 100)),
        ("horizon_s = 2000", {"ROLEKIT_HORIZON_S": "3000"}, [], (3000, 100)),
        ("", {"ROLEKIT_RESULTS_S": "300"}, ["results_s=400", "horizon_s=0"], (0, 400)),
    ],
)
def test_the_last_of_code_file_environment_and_option_reaches_the_store(
    tmp_path: Path,
    file: str,
    environ: dict[str, str],
    sets: list[str],
    expected: tuple[float, float],
) -> None:
    (tmp_path / "rolekit.toml").write_text(file)
    config = load(environ, settings=sets, folder=tmp_path)

    store = build(settled(app.plan(), config), 1, "postgres://x/y", "").services.runtime.store

    assert (getattr(store, "horizon_s"), getattr(store, "results_s")) == expected  # noqa: B009


def test_an_instance_is_told_what_its_supervisor_was(tmp_path: Path) -> None:
    config = load({}, settings=["horizon_s=5"], folder=tmp_path)

    forked = load(config.environment(), folder=tmp_path)

    plan = settled(app.plan(), forked)
    assert (plan.horizon_s, plan.results_s) == (5, 100)


def test_each_value_is_listed_with_its_source(tmp_path: Path) -> None:
    config = load({"ROLEKIT_HORIZON_S": "3000"}, folder=tmp_path)

    rows = {name: (value, source) for name, value, source in config.rows()}

    assert rows["horizon_s"] == ("3000.0", "$ROLEKIT_HORIZON_S")
    assert rows["results_s"] == ("as the app says", "code")
