"""Draws the page of all that was measured: `python -m benchmarks.page build/bench`.

Runs in the peers' environment, which has plotly. The page opens without a network.
"""

from __future__ import annotations

import html
import json
import sys
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

Entry = dict[str, Any]

OURS, THEIRS = "#0b7285", "#adb5bd"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto }
table { border-collapse: collapse } td, th { padding: .15em .8em; text-align: left }
tr.ok td:first-child { border-left: 4px solid #2b8a3e }
tr.short td:first-child { border-left: 4px solid #c92a2a }
tr.unknown td:first-child { border-left: 4px solid #adb5bd }
td.number { text-align: right; font-variant-numeric: tabular-nums }
pre { background: #f1f3f5; padding: 1em; overflow: auto }
"""
METRICS = (
    ("rate", "messages/s", 1),
    ("cpu_us", "CPU of the client, µs a message", 1),
    ("first", "age of the first, ms", 1e3),
    ("p50", "median age, ms", 1e3),
    ("p99", "99th percentile of age, ms", 1e3),
)


def main(build: Path) -> None:
    """Read the history and write the page."""
    entries = [
        json.loads(file.read_text()) for file in sorted((build / "history").glob("*.json"))
    ]
    full = [one for one in entries if one["kind"] == "full"] or entries
    parts = [
        "<!doctype html><meta charset=utf-8><title>rolekit: benchmarks</title>",
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script><h1>rolekit: benchmarks</h1>",
        *_latest(full),
        *_trend(full),
    ]
    (build / "index.html").write_text("\n".join(parts))


def _latest(full: list[Entry]) -> list[str]:
    """Show the newest figures of each scenario, whichever run they are from."""
    newest: dict[str, tuple[Entry, Entry]] = {}
    for entry in full:
        for scenario in entry["scenarios"]:
            newest[scenario["name"]] = (entry, scenario)
    parts: list[str] = []
    for entry, scenario in newest.values():
        parts.append(f"<h2>{html.escape(scenario['title'])}</h2>")
        parts.append(
            f"<p>{entry['began'][:16]}, rolekit on {entry['transport']}, a {entry['kind']} "
            "run; medians, with the range over the rounds.</p>"
        )
        parts += _bars(scenario)
        for metric, label, factor in METRICS:
            parts += _plot(scenario, metric, label, factor)
    machine = html.escape(json.dumps(full[-1]["machine"], indent=1)) if full else ""
    return [*parts, f"<h2>The machine, last run</h2><pre>{machine}</pre>"]


def _bars(scenario: Entry) -> list[str]:
    if not scenario["bars"]:
        return []
    rows = ["<table><tr><th>bar<th>figure<th>range<th>required</tr>"]
    for bar in scenario["bars"]:
        state = {True: "ok", False: "short", None: "unknown"}[bar["ok"]]
        figure = bar["figure"]
        median = f"{figure['median']:.3g} {bar['unit']}" if figure else "not measured"
        reach = f"{figure['low']:.3g} to {figure['high']:.3g}" if figure else ""
        rows.append(
            f"<tr class={state}><td>{html.escape(bar['name'])}<td class=number>{median}"
            f"<td class=number>{reach}<td class=number>{html.escape(bar['required'])}</tr>"
        )
    return [*rows, "</table>"]


def _plot(scenario: Entry, metric: str, label: str, factor: float) -> list[str]:
    found = {
        name: one["metrics"][metric]
        for name, one in scenario["contenders"].items()
        if metric in one["metrics"]
    }
    if not found:
        return []
    spreads = [{key: value * factor for key, value in one.items()} for one in found.values()]
    bars = go.Bar(
        x=[one["median"] for one in spreads],
        y=list(found),
        orientation="h",
        marker_color=[OURS if name.startswith("rolekit") else THEIRS for name in found],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [one["high"] - one["median"] for one in spreads],
            "arrayminus": [one["median"] - one["low"] for one in spreads],
        },
    )
    figure = go.Figure(bars)
    figure.update_layout(
        height=90 + 30 * len(found),
        margin={"l": 220, "r": 20, "t": 10, "b": 45},
        xaxis_title=label,
        yaxis={"autorange": "reversed"},
        template="plotly_white",
    )
    return [figure.to_html(full_html=False, include_plotlyjs=False)]


def _trend(full: list[Entry]) -> list[str]:
    """Show how the figure of each bar moved, in parts of what is required."""
    lines: dict[str, tuple[list[str], list[float]]] = {}
    for entry in full:
        for bar in (bar for scenario in entry["scenarios"] for bar in scenario["bars"]):
            limit = float(bar["required"].split()[1])
            if bar["figure"] and limit:
                name = f"{bar['name']} {bar['required']}"
                when, figures = lines.setdefault(name, ([], []))
                when.append(entry["began"])
                figures.append(bar["figure"]["median"] / limit)
    figure = go.Figure(
        [
            go.Scatter(x=x, y=y, name=name, mode="lines+markers")
            for name, (x, y) in lines.items()
        ]
    )
    figure.add_hline(y=1, line_dash="dot")
    figure.update_layout(height=600, yaxis_title="figure / required", template="plotly_white")
    return ["<h2>History</h2>", figure.to_html(full_html=False, include_plotlyjs=False)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
