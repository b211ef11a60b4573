"""The report: one page that needs no network, and the same as JSON."""

from __future__ import annotations

import html
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from rolekit.load.capacity import Trial
    from rolekit.load.result import Result


def page(result: Result, trials: list[Trial]) -> str:
    """Return the report as HTML, with everything it needs inside."""
    data = {**msgspec.to_builtins(result), "trials": msgspec.to_builtins(trials)}
    # "<" cannot end the script it stands in, whatever a scenario or an answer contained.
    encoded = msgspec.json.encode(data).decode().replace("<", "\\u003c")
    template = (files("rolekit.load") / "report.html").read_text(encoding="utf-8")
    title = html.escape(f"{result.name}: {'passed' if result.is_passed else 'failed'}")
    before, _, rest = template.replace("%TITLE%", title).partition("/*%PLOTLY%*/")
    middle, _, after = rest.partition("/*%DATA%*/")
    return f"{before}{_plotly()}{middle}{encoded}{after}"


def write(result: Result, trials: list[Trial], folder: Path) -> tuple[Path, Path]:
    """Write page and JSON into a folder; return their paths, page first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page_path, json_path = folder / f"{result.name}.html", folder / f"{result.name}.json"
        page_path.write_text(page(result, trials), encoding="utf-8")
        data = {**msgspec.to_builtins(result), "trials": msgspec.to_builtins(trials)}
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(data)))
    except OSError as error:
        raise ConfigError(
            f"The report cannot be written to {folder}: {error.strerror}.",
            fix="Name another folder: --report FOLDER.",
        ) from error
    return page_path, json_path


def _plotly() -> str:
    try:
        found = files("plotly") / "package_data" / "plotly.min.js"
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Load tests need HdrHistogram and plotly.", fix="pip install 'rolekit[load]'"
        ) from error
    return found.read_text(encoding="utf-8").replace("</script", "<\\/script")
