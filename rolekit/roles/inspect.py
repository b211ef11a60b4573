"""From a role's marks and annotations to the plans of its handlers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from inspect import Parameter as Argument
from inspect import isfunction, signature
from typing import TYPE_CHECKING, Any

from rolekit.model.graph import Problem
from rolekit.model.plan import HandlerPlan, OnDead
from rolekit.roles.annotations import (
    Parameter,
    Result,
    Unreadable,
    hints_of,
    read_batch_result,
    read_parameter,
    read_result,
)
from rolekit.roles.declare import Declared, declared_on
from rolekit.roles.timings import timing_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rolekit.roles.base import Role

BATCH, MAX_BATCH = 100, 10_000
"""Messages in a batch, unless the handler says so, and at most."""
_NAME = re.compile(r"[\w.:-]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A handler, with what its plan does not say.

    Attributes:
        plan: As `flow` needs it.
        declared: What its decorator was told.
        parameters: What each parameter is for.
        result: What comes out.
    """

    plan: HandlerPlan
    declared: Declared
    parameters: tuple[Parameter, ...]
    result: Result

    @property
    def place(self) -> str:
        """Class and method."""
        return f"{self.plan.role}.{self.plan.method}"


def read_role(role: type[Role]) -> tuple[list[Found], list[Problem]]:
    """Read all handlers of a role, its own and inherited, in the order they were written.

    Methods that `web` decorates are not looked at.
    """
    found: list[Found] = []
    problems: list[Problem] = []
    for method, value in _marked(role):
        where = f"{role.__name__}.{method}"
        try:
            found.append(_read(role, method, value))
        except Unreadable as wrong:
            problems.append(Problem(where, wrong.found, wrong.fix))
    return found, problems


def _marked(role: type[Role]) -> Iterator[tuple[str, object]]:
    """Yield each name that a class of the role marked, with what it stands for now."""
    names: dict[str, None] = {}
    for cls in reversed(role.__mro__):
        names |= dict.fromkeys(n for n, value in vars(cls).items() if _mark_of(value))
    for name in names:
        yield name, next(vars(cls)[name] for cls in role.__mro__ if name in vars(cls))


def _mark_of(value: object) -> Declared | None:
    """Return the mark of a method, also below `@staticmethod`, which is then refused."""
    return declared_on(value) or declared_on(getattr(value, "__wrapped__", None))


def _read(role: type[Role], method: str, value: object) -> Found:
    declared = _mark_of(value)
    if declared is None:
        raise Unreadable(
            "overrides a handler, but has no decorator, so no message would come to it.",
            "Decorate it as well, or give it another name.",
        )
    if not isfunction(value):
        raise Unreadable(
            f"@{declared.marker} marks a {type(value).__name__}.",
            "A handler is a plain method: def or async def, with self.",
        )
    name = declared.name or f"{role.__name__}.{method}"
    if not _NAME.fullmatch(name):
        raise Unreadable(
            f"is called {name!r}, which cannot name a queue.",
            "Use at most 200 letters, digits, dots, colons, dashes and underscores.",
        )
    hints = hints_of(value, declared.frame.f_locals if declared.frame else None)
    parameters = _parameters(value, hints, in_gather=declared.marker == "gather")
    if "return" not in hints:
        raise Unreadable("does not say what it returns.", "Write -> None if it is nothing.")
    is_batch = any(each.role == "batch" for each in parameters)
    result = (read_batch_result if is_batch else read_result)(value, hints["return"])
    _check_parameters(declared, parameters)
    plan = _plan(role, method, name, declared, parameters, result)
    return Found(plan=plan, declared=declared, parameters=parameters, result=result)


def _parameters(
    fn: Callable[..., object], hints: dict[str, Any], *, in_gather: bool
) -> tuple[Parameter, ...]:
    found: list[Parameter] = []
    for argument in list(signature(fn).parameters.values())[1:]:
        if argument.kind is not Argument.POSITIONAL_OR_KEYWORD:
            raise Unreadable(
                f"the parameter {argument.name} is not a plain one.",
                "A handler is called with its message and a Context; leave out *, / and **.",
            )
        if argument.name not in hints:
            raise Unreadable(
                f"the parameter {argument.name} has no annotation.",
                "Parameters are recognised by annotation: name the message class it takes.",
            )
        found.append(read_parameter(argument.name, hints[argument.name], in_gather=in_gather))
    return tuple(found)


def _check_parameters(declared: Declared, parameters: tuple[Parameter, ...]) -> None:
    kinds = [each.role for each in parameters]
    if len(set(kinds)) < len(kinds):
        raise Unreadable(
            f"has {len(kinds)} parameters, of which two are for the same: {', '.join(kinds)}.",
            "Take a union of messages in one parameter, and one Context.",
        )
    if declared.marker == "gather":
        _check_gather(parameters, ordered=declared.ordered)
    elif declared.marker == "handle":
        if "run" in kinds:
            raise Unreadable("takes a Run, but is a @handle.", "Decorate it with @gather.")
        if "message" not in kinds and "batch" not in kinds:
            raise Unreadable(
                "takes no message.", "Annotate one parameter with the message class it handles."
            )
        _check_batch(declared, kinds)
    elif kinds not in ([], ["context"]):
        raise Unreadable(
            f"is called by @{declared.marker}, which has no message to give.",
            "Take a Context, or nothing.",
        )


def _check_batch(declared: Declared, kinds: Sequence[str]) -> None:
    if "batch" not in kinds:
        if declared.size is not None or declared.age_s is not None:
            option = "size" if declared.size is not None else "age_s"
            raise Unreadable(
                f"has {option}=, but takes messages one by one.",
                "Take a Batch[...], or leave it out.",
            )
        return
    if "message" in kinds:
        raise Unreadable(
            "takes a Batch and a message beside it.",
            "Take one of them; the messages of a batch are its items.",
        )
    if (declared.size or 0) > MAX_BATCH:
        raise Unreadable(
            f"has size={declared.size}; a batch has at most {MAX_BATCH} messages.",
            "Make it smaller: one transaction holds all of a batch.",
        )


def _check_gather(parameters: tuple[Parameter, ...], *, ordered: bool) -> None:
    by_role = {each.role: each for each in parameters}
    if "run" not in by_role or "batch" in by_role:
        raise Unreadable(
            "is a @gather, but takes no run.",
            "Take the parts in order: Run[...], or list[...] for all of them at once.",
        )
    if by_role["run"].whole and not ordered:
        raise Unreadable(
            "takes a list, which is everything at once: ordered=False would change nothing.",
            "Take a Run, which is called with parts as they come; or leave ordered=False out.",
        )
    source = by_role.get("message")
    if source and (len(source.classes) != 1 or source.dead):
        raise Unreadable(
            f"the parameter {source.name} does not name one message class.",
            "Beside its run, a gather takes the message that was split: one class.",
        )


def _plan(
    role: type[Role],
    method: str,
    name: str,
    declared: Declared,
    parameters: tuple[Parameter, ...],
    result: Result,
) -> HandlerPlan:
    by_role = {each.role: each for each in parameters}
    is_gather = declared.marker == "gather"
    taken = by_role.get("run") or by_role.get("batch") or by_role.get("message")
    message, context = by_role.get("message"), by_role.get("context")
    on_dead: OnDead = "hole" if taken and taken.holes else declared.on_dead
    return HandlerPlan(
        name=name,
        role=role.__name__,
        method=method,
        kind="gather" if is_gather else "handle",
        call=result.call,
        shape=result.shape,
        takes=taken.classes if taken else (),
        dead=taken.dead if taken else (),
        source=message.classes[0] if is_gather and message else None,
        passes_source=is_gather and message is not None,
        whole=taken is not None and taken.whole,
        returns=result.classes,
        together=result.together,
        sends=context.classes if context else (),
        may_drop=result.may_drop,
        arguments=tuple(
            (each.name, "message" if each.role == "batch" else each.role) for each in parameters
        ),
        record=declared.record or bool(declared.key),
        reads_from=declared.source,
        retry=declared.retry,
        timeout_s=declared.timeout_s,
        key=declared.key,
        on_dead=on_dead,
        deadline_s=declared.deadline_s,
        batch="batch" in by_role,
        size=declared.size or (BATCH if "batch" in by_role else 1000),
        age_s=declared.age_s or 0,
        ordered=declared.ordered,
        timing=timing_of(declared),
        circuit=declared.circuit,
        rates=declared.rate,
    )
