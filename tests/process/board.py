"""The board for Grafana, and what of it can be held against the numbers of an app."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.process.supervised import ROOT

BOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/boards/rolekit.json").read_text())
PANELS: list[dict[str, Any]] = [one for one in BOARD["panels"] if one["type"] != "row"]
VARIABLES: list[dict[str, Any]] = [
    one for one in BOARD["templating"]["list"] if one["type"] == "query"
]
WINDOW = "10s"
NAME = re.compile(r"\b((?:rolekit|messaging)_\w+)")
GROUPING = re.compile(r" by \(([^)]*)\)")


def queries(app: str) -> list[str]:
    """Return the board's queries as Grafana would send them for all roles of an app."""
    return [
        target["expr"]
        .replace("$app", app)
        .replace("$role", ".*")
        .replace("$__rate_interval", WINDOW)
        for panel in PANELS
        for target in panel["targets"]
    ]


def names_in(query: str) -> list[str]:
    """Return the metrics that a query names, and no label that it adds up by."""
    return NAME.findall(GROUPING.sub("", query))


def series_of(text: str) -> dict[str, set[str]]:
    """Read names, and the labels of each, off a text for Prometheus."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if match := re.match(r"(\w+)\{(.*)\} ", line):
            found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2]))
    return found


def labels_in(query: str, name: str) -> set[str]:
    """Return the labels that a query wants of a name: to match, and to add up by."""
    matched = re.search(re.escape(name) + r"\{([^}]*)\}", query)
    assert matched is not None, f"{name} of any app is shown: {query}"
    grouped = GROUPING.findall(query)
    wanted = re.findall(r"(\w+)=~?\"", matched[1])
    return {*wanted, *(label for group in grouped for label in re.findall(r"\w+", group))}
