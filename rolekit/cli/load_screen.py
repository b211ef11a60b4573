"""What `load` says: how a run goes, and how it ended."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from rolekit.cli.console import out, say, visible

if TYPE_CHECKING:
    from pathlib import Path

    from rolekit.load.capacity import Trial
    from rolekit.load.result import Mark, Recorder, Result
    from rolekit.load.scenario import Scenario

_NONE = "\N{EN DASH}"
_SAID_EVERY_S = 5
_LATELY_S = 3
_COLUMNS = 80
_PERCENTILES = (("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9), ("max", 100))


def _columns() -> int:
    """Return the width of the terminal that the line goes to; the output may go elsewhere."""
    with suppress(KeyError, ValueError):
        return int(os.environ["COLUMNS"])
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stderr.fileno()).columns
    return _COLUMNS


class Screen:
    """Says how a run goes: one line that changes on a terminal, else one each five seconds."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._is_terminal = sys.stderr.isatty()
        self._said_s = 0.0

    def begin(self) -> None:
        """Say what is run."""
        one = self._scenario
        say(f"{one.name}: {one.for_s:g} s, {one.clients} client processes, seed {one.seed}")

    def tick(self, recorder: Recorder, at_s: float) -> None:
        """Say how it stands, so many seconds after its start."""
        line = visible(self._line(recorder, at_s))
        if self._is_terminal:
            # What goes on in the next row of the terminal would stay there.
            room = _columns() - 1
            sys.stderr.write(f"\r\x1b[2K{line[:room]}")
            sys.stderr.flush()
        elif at_s - self._said_s >= _SAID_EVERY_S or at_s < self._said_s:
            self._said_s = at_s
            say(line)

    def mark(self, mark: Mark) -> None:
        """Say what was done to the app."""
        what = f"{mark.text}: {mark.problem}" if mark.problem else mark.text
        self._whole(f"{mark.at_s:4.0f} s  {what}")

    def trial(self, trial: Trial) -> None:
        """Say what came of one rate of a search."""
        from rolekit.load.verdict import duration  # noqa: PLC0415 - it takes long to import

        outcome = "passed" if trial.is_passed else f"failed: {' '.join(trial.reasons)}"
        self._whole(f"{trial.rate:8,.1f}/s  p99 {duration(trial.p99_us):>8}  {outcome}")

    def end(self) -> None:
        """Leave the line to what is said next."""
        if self._is_terminal:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    def _whole(self, line: str) -> None:
        self.end()
        say(line)

    def _line(self, recorder: Recorder, at_s: float) -> str:
        """Return how it stands; what matters least comes last, as a terminal may cut it."""
        from rolekit.load.verdict import duration  # noqa: PLC0415 - it takes long to import

        under_way = sum(recorder.under_way.values())
        failed = sum(second.failed for second in recorder.seconds)
        failures = f"{failed:,} failed"
        if at_s > self._scenario.for_s:
            if not under_way:
                return f"{at_s:4.0f} s  all ended, {failures}; waiting until the app is idle"
            return f"{at_s:4.0f} s  no more is sent; waiting for {under_way:,}, {failures}"
        now_s = min(int(at_s), len(recorder.seconds))
        lately = recorder.seconds[max(0, now_s - _LATELY_S) : max(1, now_s)]
        rate = sum(second.answered for second in lately) / max(1, len(lately))
        total = recorder.total
        p50, p99 = (
            (duration(total.get_value_at_percentile(share)) for share in (50, 99))
            if total.total_count
            else (_NONE, _NONE)
        )
        return (
            f"{max(at_s, 0):4.0f} of {self._scenario.for_s:g} s {rate:4,.0f}/s answered"
            f" {under_way:4,} under way  {failures}  p50 {p50}  p99 {p99}"
        )


def say_outcome(result: Result, trials: list[Trial], page: Path) -> None:
    """Print what was measured, where the report is, and whether it passed or why not."""
    from rolekit.load.verdict import duration  # noqa: PLC0415 - it takes long to import

    for line in result.warnings:
        say(f"warning: {line}")
    failed = result.failed / result.due if result.due else 0
    latencies = "  ".join(
        f"{name} {duration(result.at(share))}"
        for name, share in _PERCENTILES
        if result.percentiles
    )
    out(
        f"answered   {result.answered:,} of {result.due:,}, {result.rate:,.1f}/s, "
        f"{failed:.2%} failed"
    )
    out(f"latency    {latencies or 'none'}")
    for one in result.objectives:
        out(f"objective  {one.text}: {one.measured}, {'met' if one.is_met else 'MISSED'}")
    if result.checked is not None:
        found = result.checked
        out(
            f"checked    lost {found.lost:,}, repeated {found.repeated:,}, "
            f"out of order {found.out_of_order:,}"
        )
    if trials:
        best = max((one.rate for one in trials if one.is_passed), default=0)
        out(f"capacity   {best:,.1f}/s" if best else "capacity   none of the rates passed")
    out(f"report     {page}")
    if result.is_passed:
        out("PASSED")
    for number, reason in enumerate(result.reasons):
        out(f"{'' if number else 'FAILED':<10} {reason}")
