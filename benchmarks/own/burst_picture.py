"""What a burst did, as an SVG that pages can show without a script."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, PANEL, GAP, LEFT, TOP, RIGHT, FOOT = 760, 120, 34, 64, 66, 16, 24
INK, GRID, MARK, FONT = "#333", "#ddd", "#888", "font-family='system-ui, sans-serif'"


class Seen(Protocol):
    """One look; see `burst.Sample`."""

    at_s: float
    instances: int
    ready: int
    waiting: int
    in_hand: int
    rate: float
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Line:
    """Values over time; `is_step`: they hold until the next."""

    values: Sequence[float]
    colour: str
    is_step: bool = False


@dataclass(frozen=True, slots=True)
class Moments:
    """What a reader looks for, in seconds since the burst.

    Attributes:
        least, most: Instances at the begin, and as many as there were.
        up_s: When so many were ready, or as many as became so.
        empty_s: Since when nothing waited or was in hand.
        down_s: When there were as many as at the begin again.
    """

    least: int
    most: int
    up_s: float
    empty_s: float
    down_s: float

    def told(self, messages: int, flaps: int) -> str:
        """Say what happened in one sentence; `flaps`: how often it went up after down."""
        flapped = f"{flaps} flaps" if flaps else "no flap"
        return (
            f"{messages:,} messages at once: {self.least} → {self.most} instances in "
            f"{self.up_s:.0f} s, empty after {self.empty_s:.0f} s, back to {self.least} after "
            f"{self.down_s - self.empty_s:.0f} s more, {flapped}"
        )


def moments(samples: Sequence[Seen]) -> Moments:
    """Find them in what was seen of a burst from before it until it was over.

    Each is when it was first seen to be so: it came to be so since the look before.
    """
    least, most = samples[0].instances, max(one.ready for one in samples)
    last_busy = max(n for n, one in enumerate(samples) if one.waiting or one.in_hand)
    over = samples[last_busy + 1 :] or samples[-1:]
    return Moments(
        least=least,
        most=most,
        up_s=next(one.at_s for one in samples if one.ready == most),
        empty_s=over[0].at_s,
        down_s=next((one.at_s for one in over if one.ready == least), over[-1].at_s),
    )


def draw(messages: int, samples: Sequence[Seen], flaps: int) -> str:
    """Draw instances, queue, rate and age over time; above all, say what happened."""
    times = [one.at_s for one in samples]
    found = moments(samples)
    panels = [
        (
            "instances: wanted (line) and ready (dots)",
            [
                Line([one.instances for one in samples], "#1f6feb", is_step=True),
                Line([one.ready for one in samples], "#1f6feb"),
            ],
        ),
        ("messages waiting", [Line([one.waiting for one in samples], "#c2410c")]),
        (
            "handled a second, on average of the last 5 seconds, or up to 20 once idle",
            [Line([one.rate for one in samples], "#15803d")],
        ),
        (
            "how long the oldest that waits has waited, in seconds",
            [Line([one.oldest_s for one in samples], "#7e22ce")],
        ),
    ]
    foot = TOP + len(panels) * (PANEL + GAP) - GAP + 14
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{foot + FOOT}'>",
        f"<rect width='{WIDTH}' height='{foot + FOOT}' fill='white'/>",
        _text(12, 24, found.told(messages, flaps), size=14),
    ]
    for number, (title, lines) in enumerate(panels):
        parts += _panel(TOP + number * (PANEL + GAP), title, times, lines)
    parts += _marks(found, max(times), foot - 14)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(_text(middle, foot + 16, "seconds since the burst", anchor="middle"))
    return "\n".join([*parts, "</svg>\n"])


def _marks(found: Moments, end_s: float, foot: float) -> list[str]:
    """Draw a line through all panels at each moment, with its name above."""
    parts: list[str] = []
    for at_s, name, anchor in (
        (found.up_s, f"{found.most} ready", "start"),
        (found.empty_s, "empty", "end"),
        (found.down_s, f"back to {found.least}", "end"),
    ):
        at = _x(at_s, end_s)
        parts.append(
            f"<path d='M{at:.1f},{TOP - 14}V{foot:.1f}' stroke='{MARK}' "
            "stroke-dasharray='4 3'/>"
        )
        beside = 3 if anchor == "start" else -3
        parts.append(_text(at + beside, TOP - 6, name, anchor=anchor))
    return parts


def _x(at_s: float, end_s: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * at_s / end_s


def _panel(top: int, title: str, times: Sequence[float], lines: Sequence[Line]) -> list[str]:
    most = max(max(line.values) for line in lines)
    step = _nice(most / 3)
    ceiling = max(math.ceil(most / step), 1) * step
    end_s = max(times)
    x_step = _nice(end_s / 8)

    def y(value: float) -> float:
        return top + PANEL - (PANEL - 18) * value / ceiling

    parts = [_text(LEFT + 4, top + 10, title, size=12)]
    for n in range(round(ceiling / step) + 1):
        level = y(n * step)
        parts.append(_rule(LEFT, level, WIDTH - RIGHT, level))
        parts.append(_text(LEFT - 6, level + 4, f"{n * step:,.10g}", anchor="end"))
    for n in range(int(end_s / x_step) + 1):
        at = _x(n * x_step, end_s)
        parts.append(_rule(at, y(ceiling), at, top + PANEL))
        parts.append(_text(at, top + PANEL + 14, f"{n * x_step:,.10g}", anchor="middle"))
    for number, line in enumerate(lines):
        points = [
            (_x(at_s, end_s), y(value)) for at_s, value in zip(times, line.values, strict=True)
        ]
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
