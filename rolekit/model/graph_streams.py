"""Which gathers take streams: those that no split feeds, so that clients do.

Source: API "Gathers" 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rolekit.model.plan import AppPlan, HandlerPlan


def takes_stream(
    gather: HandlerPlan,
    splits: Iterable[HandlerPlan],
    opens: Mapping[str, str],
    reaches: Mapping[str, frozenset[str]],
) -> bool:
    """Say whether a gather can only be meant for a stream.

    Args:
        gather: It takes runs, and names no message that was split.
        splits: Those whose parts lead to it.
        opens: The gather that each split opens a sequence of.
        reaches: The gathers that each handler leads to.
    """
    if gather.source is not None or gather.whole:
        return False
    # Parts of a split end at its own gather; what that one gives may stand in a stream.
    closed = (opens.get(split.name) for split in splits)
    return all(
        inner is not None and inner != gather.name and gather.name in reaches[inner]
        for inner in closed
    )


def check_stream(
    gather: HandlerPlan, where: str, complain: Callable[[str, str, str], None]
) -> bool:
    """Complain of what makes no sense without an end and without a message that was split.

    Returns:
        Whether nothing does.
    """
    wrong = list(_wrong(gather))
    for found, fix in wrong:
        complain(where, f"{found}; but no split leads here, so it takes a stream.", fix)
    return not wrong


def _wrong(gather: HandlerPlan) -> Iterator[tuple[str, str]]:
    if gather.deadline_s is not None:
        yield (
            f"has deadline_s={gather.deadline_s:g}",
            "A stream has no end: leave it out. What was sent comes, or dies in the end.",
        )
    if not gather.ordered:
        yield (
            "has ordered=False",
            "A stream comes in order: leave it out, or split a message into what comes here.",
        )
    if gather.on_dead == "fail":
        yield (
            'has on_dead="fail"',
            'No message was split that could fail: take a Hole, or set on_dead="skip".',
        )


def entries(
    handlers: Mapping[str, HandlerPlan], reaches: Mapping[str, frozenset[str]], gather: str
) -> list[str]:
    """Name the handlers that a message of a stream may pass on its way to its gather."""
    return [name for name in handlers if name != gather and gather in reaches[name]]


def ways_of(app: AppPlan, cls: type) -> dict[str, list[str]]:
    """Say by which handlers of a class each gather that takes streams is reached."""
    ways: dict[str, list[str]] = {}
    for target in app.destinations.get(cls, ()):
        for gather in sorted(app.reaches[target] & app.streams):
            ways.setdefault(gather, []).append(target)
    return ways
