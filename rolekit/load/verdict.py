"""Whether a run passed, and why not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.load.objectives import Objective
from rolekit.load.result import Judged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rolekit.load.histogram import Histogram
    from rolekit.load.result import Checked, Result, Seen

_ERRORS = Objective(
    text="errors=1% (if nothing is said)", name="errors", percentile=None, bound=0.01
)
_LATE_US = 10_000
_US = 1_000_000


def judge(result: Result, latencies: Histogram, objectives: Sequence[Objective]) -> None:
    """Add to a result what its objectives, its check and its last look at the app say."""
    wanted = list(objectives)
    if not any(one.name == "errors" for one in wanted):
        wanted.append(_ERRORS)
    result.objectives = [_judged(result, latencies, one) for one in wanted]
    result.reasons += _reasons(result)
    result.warnings += _warnings(result)


def _judged(result: Result, latencies: Histogram, wanted: Objective) -> Judged:
    if wanted.percentile is not None:
        value = latencies.get_value_at_percentile(wanted.percentile) if result.due else 0
        is_met = bool(result.due) and value <= wanted.bound
        return Judged(text=wanted.text, measured=duration(value), is_met=is_met)
    if wanted.name == "errors":
        share = result.failed / result.due if result.due else 1
        return Judged(text=wanted.text, measured=f"{share:.3%}", is_met=share <= wanted.bound)
    return Judged(
        text=wanted.text, measured=f"{result.rate:,.1f}", is_met=result.rate >= wanted.bound
    )


def _reasons(result: Result) -> Iterator[str]:
    for one in result.objectives:
        if not one.is_met:
            yield f"{one.text} was missed: {one.measured}."
    if result.unanswered:
        many = "requests were" if result.unanswered != 1 else "request was"
        yield f"{result.unanswered:,} {many} not answered when the run was stopped."
    if result.checked is not None:
        yield from _found(result.checked)
    if result.seen:
        yield from left_over(result.seen)
    for role, count in (result.unaccounted or {}).items():
        yield (
            f"{role} has {count:,} message{'s' * (count != 1)} unaccounted for: what came, "
            "came to nothing and is not in hand."
        )


def _found(checked: Checked) -> Iterator[str]:
    for name, count in (
        ("lost", checked.lost),
        ("repeated", checked.repeated),
        ("out of order", checked.out_of_order),
    ):
        if count:
            yield f"{count:,} {name}."


def left_over(seen: Sequence[Seen]) -> Iterator[str]:
    """Say what the app has now that it did not have before the run."""
    before = {role.role: role for role in seen[0].roles}
    for role in seen[-1].roles:
        earlier = before.get(role.role)
        new_dead = (role.dead or 0) - ((earlier.dead or 0) if earlier else 0)
        if new_dead > 0:
            letters = "letter" if new_dead == 1 else "letters"
            yield f"{role.role} has {new_dead:,} dead {letters} more than before."
        left = (role.waiting or 0) + role.in_hand
        if left:
            messages = "message" if left == 1 else "messages"
            yield f"{role.role} has {left:,} {messages} left that it did not get done."


def _warnings(result: Result) -> Iterator[str]:
    if result.late_us > _LATE_US:
        yield (
            f"A client was up to {duration(result.late_us)} behind its schedule by itself. "
            "Latencies contain that: give it more clients, or another machine."
        )
    for mark in result.marks:
        if mark.problem:
            yield f"{mark.text} at {mark.at_s:.0f} s could not be done: {mark.problem}"


def duration(value_us: float) -> str:
    """Write a duration as people do: three digits and a unit."""
    if value_us < 1000:  # noqa: PLR2004 - microseconds in a millisecond
        return f"{value_us:.0f} µs"
    if value_us < _US:
        return f"{value_us / 1000:.3g} ms" if value_us < 999_500 else "1 s"  # noqa: PLR2004
    return f"{value_us / _US:.3g} s" if value_us < 1000 * _US else f"{value_us / _US:,.0f} s"
