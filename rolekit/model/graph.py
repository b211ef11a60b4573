"""From handlers to routes: who gets what, which split each gather closes, what does not fit.

Nothing here runs an app. A graph is drawn once at start, and its problems are sentences for
whoever wrote the roles.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from rolekit.model.codec import what_is_wrong
from rolekit.model.graph_dead import check_told, told
from rolekit.model.graph_streams import check_stream, entries, takes_stream
from rolekit.model.message import Reply, wire_name, wire_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rolekit.model.plan import HandlerPlan


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an app cannot start.

    Attributes:
        where: Class and method, or whatever the reader should open.
        found: What is there and what was expected instead.
        fix: What to do; may be empty.
    """

    where: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        """Write it as `rolekit check` shows it."""
        return f"{self.where}: {self.found}" + (f"\n    {self.fix}" if self.fix else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The routes of an app, as in `AppPlan`, and what does not fit."""

    handlers: Mapping[str, HandlerPlan]
    destinations: Mapping[type, tuple[str, ...]]
    reaches: Mapping[str, frozenset[str]]
    opens: Mapping[str, str]
    wire_names: Mapping[type, str]
    types: Mapping[str, type]
    told: Mapping[type, tuple[str, ...]]
    streams: frozenset[str]
    problems: Sequence[Problem]


@dataclass
class _Drawing:
    """A graph under the pen."""

    handlers: dict[str, HandlerPlan]
    destinations: dict[type, tuple[str, ...]] = field(
        default_factory=dict[type, tuple[str, ...]]
    )
    reaches: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    opens: dict[str, str] = field(default_factory=dict[str, str])
    streams: set[str] = field(default_factory=set[str])
    problems: list[Problem] = field(default_factory=list[Problem])

    def leading(self, cls: type, gather: str) -> list[str]:
        """Name the handlers of a class from which a gather can be reached."""
        return [name for name in self.destinations.get(cls, ()) if gather in self.reaches[name]]

    def gathers(self) -> list[HandlerPlan]:
        return [plan for plan in self.handlers.values() if plan.kind == "gather"]

    def complain(self, where: str, found: str, fix: str = "") -> None:
        problem = Problem(where, found, fix)
        if problem not in self.problems:
            self.problems.append(problem)


def draw(
    plans: Iterable[HandlerPlan],
    names: Mapping[type, str] | None = None,
    elsewhere: Iterable[type] = (),
) -> Graph:
    """Draw the graph of an app.

    Args:
        plans: All handlers of all roles, in the order they were written. A gather that does
            not take the message that was split has `source` None; it is inferred.
        names: Wire names of classes that are not ours to name.
        elsewhere: Classes that another app handles.

    Returns:
        The graph; it is only fit to run when it has no problems.
    """
    plans = list(plans)
    drawing = _Drawing({plan.name: plan for plan in plans})
    _check_names(plans, drawing)
    drawing.destinations = _destinations(drawing.handlers.values())
    drawing.reaches = _reaches(drawing)
    _check_outputs(drawing, frozenset(elsewhere))
    _open_splits(drawing)
    for gather in drawing.gathers():
        _check_sequence(drawing, gather)
        _check_deadline(drawing, gather)
    check_told(drawing.handlers, drawing.destinations, drawing.opens, drawing.complain)
    wire_names, types = _wire_names(drawing, names or {})
    return Graph(
        handlers=drawing.handlers,
        destinations=drawing.destinations,
        reaches=drawing.reaches,
        opens=drawing.opens,
        wire_names=wire_names,
        types=types,
        told=told(plans),
        streams=frozenset(drawing.streams),
        problems=tuple(drawing.problems),
    )


def _check_names(plans: Sequence[HandlerPlan], drawing: _Drawing) -> None:
    seen: dict[str, HandlerPlan] = {}
    for plan in plans:
        first = seen.setdefault(plan.name, plan)
        if first is not plan:
            drawing.complain(
                _place(plan),
                f"is called {plan.name!r}, and so is {_place(first)}.",
                "A name is that of one queue: give one of them another, @handle(name=...).",
            )


def _destinations(plans: Iterable[HandlerPlan]) -> dict[type, tuple[str, ...]]:
    found: dict[type, tuple[str, ...]] = {}
    for plan in plans:
        for cls in plan.takes:
            found[cls] = (*found.get(cls, ()), plan.name)
    return found


def _reaches(drawing: _Drawing) -> dict[str, frozenset[str]]:
    """Follow what handlers return until nothing new is reached; loops are allowed."""
    found: dict[str, frozenset[str]] = {
        name: frozenset([name] if plan.kind == "gather" else [])
        for name, plan in drawing.handlers.items()
    }
    grown = True
    while grown:
        grown = False
        for name, plan in drawing.handlers.items():
            nexts = (each for cls in plan.returns for each in drawing.destinations.get(cls, ()))
            wider = found[name].union(*(found[each] for each in nexts))
            grown = grown or wider != found[name]
            found[name] = wider
    return found


def _check_outputs(drawing: _Drawing, elsewhere: frozenset[type]) -> None:
    taken = sorted({cls.__name__ for cls in drawing.destinations})
    for plan in drawing.handlers.values():
        for verb, classes in (("returns", plan.returns), ("sends", plan.sends)):
            for cls in classes:
                if _is_answered(cls, drawing, elsewhere):
                    continue
                close = get_close_matches(cls.__name__, taken, n=1)
                guess = f"Did you mean {close[0]}? " if close else ""
                drawing.complain(
                    _place(plan),
                    f"{verb} {cls.__name__}, which nobody takes.",
                    f"{guess}A message for ask or follow derives from Reply.",
                )


def _is_answered(cls: type, drawing: _Drawing, elsewhere: frozenset[type]) -> bool:
    return issubclass(cls, Reply) or cls in drawing.destinations or cls in elsewhere


def _open_splits(drawing: _Drawing) -> None:
    """Tell each gather its split; those that name it first, the others get what is left."""
    gathers = drawing.gathers()
    for gather in (each for each in gathers if each.source is not None):
        openers = [split for split in _splits(drawing, gather) if gather.source in split.takes]
        _open(drawing, gather, openers)
    for gather in (each for each in gathers if each.source is None):
        left = [split for split in _splits(drawing, gather) if split.name not in drawing.opens]
        _open(drawing, _with_source(drawing, gather, left), left)


def _with_source(
    drawing: _Drawing, gather: HandlerPlan, splits: list[HandlerPlan]
) -> HandlerPlan:
    """Complete a gather that did not name its split, if only one can be meant."""
    if len(splits) != 1 or len(splits[0].takes) != 1:
        return gather
    drawing.handlers[gather.name] = replace(gather, source=splits[0].takes[0])
    return drawing.handlers[gather.name]


def _splits(drawing: _Drawing, gather: HandlerPlan) -> list[HandlerPlan]:
    return [
        plan
        for plan in drawing.handlers.values()
        if plan.kind == "handle"
        and plan.shape != "one"
        and any(drawing.leading(cls, gather.name) for cls in plan.returns)
    ]


def _open(drawing: _Drawing, gather: HandlerPlan, openers: list[HandlerPlan]) -> None:
    if not openers:
        splits = _splits(drawing, gather)
        if not takes_stream(gather, splits, drawing.opens, drawing.reaches):
            _complain_of_no_split(drawing, gather)
        elif check_stream(gather, _place(gather), drawing.complain):
            drawing.streams.add(gather.name)
        return
    if len(openers) > 1 or (gather.source is None and openers[0].takes):
        _complain_of_several_splits(drawing, gather, openers)
        return
    split = openers[0]
    other = drawing.opens.setdefault(split.name, gather.name)
    if other != gather.name:
        drawing.complain(
            _place(gather),
            f"gathers the parts of {_place(split)}, and so does {_place_of(drawing, other)}.",
            "A split has one gather: let one of them take what the other returns.",
        )


def _complain_of_no_split(drawing: _Drawing, gather: HandlerPlan) -> None:
    what = f"no handler of {gather.source.__name__}" if gather.source else "no handler"
    drawing.complain(
        _place(gather),
        f"takes {_run_text(gather)}, but {what} splits into messages that come to it.",
        "A split returns list[...] or AsyncIterator[...] of something that leads here.",
    )


def _complain_of_several_splits(
    drawing: _Drawing, gather: HandlerPlan, openers: list[HandlerPlan]
) -> None:
    candidates = " and ".join(_place(split) for split in openers)
    if gather.source is not None:
        drawing.complain(
            _place(gather),
            f"gathers the parts of one {gather.source.__name__}, "
            f"but {candidates} each split it into messages that come here.",
            "Let one of them return something else, or take the message of another split.",
        )
        return
    classes = sorted({cls.__name__ for split in openers for cls in split.takes})
    drawing.complain(
        _place(gather),
        f"does not say which split it closes; what {candidates} returns comes here.",
        f"Take the message that was split beside the run: {' or '.join(classes)}.",
    )


def _check_sequence(drawing: _Drawing, gather: HandlerPlan) -> None:
    """Check that whatever enters a sequence can only end it at its gather, by one way."""
    for plan in _on_the_way(drawing, gather.name):
        if plan.kind == "handle" and plan.shape != "one":
            continue
        for cls in _ending(drawing, plan, gather.name):
            if not _is_answered(cls, drawing, frozenset()):
                continue
            wider = _run_text(gather, cls)
            drawing.complain(
                _place(gather),
                f"takes {_run_text(gather)}, but {_place(plan)} may also end a position "
                f"with {cls.__name__}.",
                f"Take {wider}, or handle {cls.__name__} elsewhere and return None here.",
            )


def _ending(drawing: _Drawing, plan: HandlerPlan, gather: str) -> Iterator[type]:
    """Yield the classes with which a handler ends a position that the gather waits for.

    Beside a message that leads there anything may stand: that one takes the position. So of
    a tuple in which one message may lead there, only the other classes of that one end it.
    """
    for position in plan.positions:
        lost = [[c for c in item if not drawing.leading(c, gather)] for item in position]
        could = [one for one, item in zip(lost, position, strict=True) if len(one) < len(item)]
        for classes in could or lost:
            yield from classes


def _on_the_way(drawing: _Drawing, gather: str) -> Iterator[HandlerPlan]:
    """Yield the handlers between a gather and its split, and complain where ways part."""
    waiting = [name for name, closing in drawing.opens.items() if closing == gather]
    if gather in drawing.streams:
        waiting = entries(drawing.handlers, drawing.reaches, gather)
        yield from (drawing.handlers[name] for name in waiting)
    seen = set(waiting)
    while waiting:
        plan = drawing.handlers[waiting.pop()]
        _check_tuples(drawing, gather, plan)
        for cls in plan.returns:
            ways = drawing.leading(cls, gather)
            if len(ways) > 1:
                _complain_of_two_ways(drawing, gather, cls)
            fresh = [name for name in ways if name not in seen and name != gather]
            seen.update(fresh)
            waiting += fresh
            yield from (drawing.handlers[name] for name in fresh)


def _check_tuples(drawing: _Drawing, gather: str, plan: HandlerPlan) -> None:
    """Complain where two messages at one position could both take it."""
    for position in plan.positions:
        firsts = (
            next((cls for cls in item if drawing.leading(cls, gather)), None)
            for item in position
        )
        names = [cls.__name__ for cls in firsts if cls is not None]
        if len(names) > 1:
            drawing.complain(
                _place_of(drawing, gather),
                f"would get two parts for one position: {_place(plan)} returns "
                f"{' and '.join(names)} together, and both lead here.",
                "Let one of them be something that does not come here, or return a list: it "
                "gives each a position of its own.",
            )


def _complain_of_two_ways(drawing: _Drawing, gather: str, cls: type) -> None:
    ways = " and ".join(_place_of(drawing, name) for name in drawing.leading(cls, gather))
    drawing.complain(
        _place_of(drawing, gather),
        f"would get two parts for one position: a {cls.__name__} goes to {ways}, "
        "and both lead here.",
        "Let one of them return None, or something that does not come here.",
    )


def _check_deadline(drawing: _Drawing, gather: HandlerPlan) -> None:
    if gather.deadline_s is not None and gather.on_dead == "wait":
        wider = _run_text(replace(gather, on_dead="hole"))
        drawing.complain(
            _place(gather),
            f'has deadline_s={gather.deadline_s} and on_dead="wait": at the deadline nothing '
            "would happen.",
            f'Take {wider}, or set on_dead="skip" or on_dead="fail".',
        )


def _wire_names(
    drawing: _Drawing, names: Mapping[type, str]
) -> tuple[dict[type, str], dict[str, type]]:
    wire_names: dict[type, str] = {}
    types: dict[str, type] = {}
    for cls in _classes(drawing.handlers.values(), names):
        wire_names[cls] = names.get(cls, wire_name(cls))
        wrong = what_is_wrong(cls)
        if wrong:
            drawing.complain(
                cls.__qualname__,
                f"has a field that cannot be read at run time: {wrong}.",
                "Import the types of its fields at module level, not under TYPE_CHECKING.",
            )
        for name in (wire_names[cls], *wire_of(cls).aliases):
            other = types.setdefault(name, cls)
            if other is not cls:
                drawing.complain(
                    f"{cls.__module__}.{cls.__qualname__}",
                    f"is called {name!r} on the wire, and so is "
                    f"{other.__module__}.{other.__qualname__}.",
                    f"Name one of them: class {cls.__name__}(Message, name=...).",
                )
    return wire_names, types


def _classes(plans: Iterable[HandlerPlan], names: Mapping[type, str]) -> list[type]:
    """List every class that travels, once, in the order they are met."""
    found: dict[type, None] = {}
    for plan in plans:
        source = () if plan.source is None else (plan.source,)
        found |= dict.fromkeys((*source, *plan.takes, *plan.dead, *plan.returns, *plan.sends))
    return list(found | dict.fromkeys(names))


def _place(plan: HandlerPlan) -> str:
    return f"{plan.role}.{plan.method}"


def _place_of(drawing: _Drawing, name: str) -> str:
    return _place(drawing.handlers[name])


def _run_text(gather: HandlerPlan, *more: type) -> str:
    parts = [cls.__name__ for cls in (*gather.takes, *more)]
    if gather.on_dead == "hole":
        parts.append("Hole")
    return f"{'list' if gather.whole else 'Run'}[{' | '.join(parts)}]"
