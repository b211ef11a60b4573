"""The board for Grafana: it has every number, and no panel hides another."""

from __future__ import annotations

from rolekit.model.sample import METRICS
from tests.process.board import BOARD, NAME, PANELS, queries


def test_every_number_is_on_the_board() -> None:
    named = {name for query in queries("shop") for name in NAME.findall(query)}

    missing = [
        name
        for name in METRICS
        if not any(one.startswith(name.replace(".", "_")) for one in named)
    ]

    assert missing == []


def test_every_panel_says_what_it_shows_and_lies_where_no_other_does() -> None:
    places = [
        (x, y)
        for panel in BOARD["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert all(panel["description"] and panel["title"] for panel in PANELS)
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
