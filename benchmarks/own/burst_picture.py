"""What a burst did, as an SVG that pages can show without a script."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, PANEL, GAP, LEFT, TOP, RIGHT = 760, 120, 34, 64, 44, 16
INK, GRID, FONT = "#333", "#ddd", "font-family='system-ui, sans-serif'"


class Seen(Protocol):
    """One look; see `burst.Sample`."""

    at_s: float
    instances: int
    ready: int
    waiting: int
    rate: float
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Line:
    """Values over time; `is_step`: they hold until the next."""

    values: Sequence[float]
    colour: str
    is_step: bool = False


def draw(messages: int, samples: Sequence[Seen]) -> str:
    """Draw instances, queue, rate and age over time."""
    times = [one.at_s for one in samples]
    panels = [
        (
            "instances: wanted (line) and ready (dots)",
            [
                Line([one.instances for one in samples], "#1f6feb", is_step=True),
                Line([one.ready for one in samples], "#1f6feb"),
            ],
        ),
        ("messages waiting", [Line([one.waiting for one in samples], "#c2410c")]),
        ("settled a second", [Line([one.rate for one in samples], "#15803d")]),
        ("age of the oldest, s", [Line([one.oldest_s for one in samples], "#7e22ce")]),
    ]
    height = TOP + len(panels) * (PANEL + GAP) + 12
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}'>",
        f"<rect width='{WIDTH}' height='{height}' fill='white'/>",
        _text(LEFT, 24, f"A burst of {messages:,} messages; seconds below", size=15),
    ]
    for number, (title, lines) in enumerate(panels):
        parts += _panel(TOP + number * (PANEL + GAP), title, times, lines)
    return "\n".join([*parts, "</svg>\n"])


def _panel(top: int, title: str, times: Sequence[float], lines: Sequence[Line]) -> list[str]:
    most = max(max(line.values) for line in lines)
    step = _nice(most / 3)
    ceiling = max(math.ceil(most / step), 1) * step
    end_s = max(times)
    x_step = _nice(end_s / 8)

    def x(at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at_s / end_s

    def y(value: float) -> float:
        return top + PANEL - (PANEL - 18) * value / ceiling

    parts = [_text(LEFT + 4, top + 10, title, size=12)]
    for n in range(round(ceiling / step) + 1):
        level = y(n * step)
        parts.append(_rule(LEFT, level, WIDTH - RIGHT, level))
        parts.append(_text(LEFT - 6, level + 4, f"{n * step:,.10g}", anchor="end"))
    for n in range(int(end_s / x_step) + 1):
        at = x(n * x_step)
        parts.append(_rule(at, y(ceiling), at, top + PANEL))
        parts.append(_text(at, top + PANEL + 14, f"{n * x_step:,.10g}", anchor="middle"))
    for number, line in enumerate(lines):
        points = [(x(at_s), y(value)) for at_s, value in zip(times, line.values, strict=True)]
        if number:
            parts += [
                f"<circle cx='{a:.1f}' cy='{b:.1f}' r='1.6' fill='{INK}'/>" for a, b in points
            ]
        else:
            parts.append(_path(points, line))
    return parts


def _path(points: Sequence[tuple[float, float]], line: Line) -> str:
    (first_x, first_y), *rest = points
    drawn = [f"M{first_x:.1f},{first_y:.1f}"]
    for a, b in rest:
        drawn.append(f"H{a:.1f}V{b:.1f}" if line.is_step else f"L{a:.1f},{b:.1f}")
    return f"<path d='{''.join(drawn)}' fill='none' stroke='{line.colour}' stroke-width='1.8'/>"


def _nice(step: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(max(step, 1e-6)))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= step)


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f"<path d='M{x1:.1f},{y1:.1f}L{x2:.1f},{y2:.1f}' stroke='{GRID}'/>"


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "start") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' {FONT} font-size='{size}' fill='{INK}' "
        f"text-anchor='{anchor}'>{escape(text)}</text>"
    )
