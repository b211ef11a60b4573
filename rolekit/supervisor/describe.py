"""Import an app and say what it is made of; runs in the zygote, and in `rolekit check`.

Knows apps and roles only by the few attributes it reads, since supervisors do not depend on
roles.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from rolekit.config import nearest
from rolekit.errors import AppError, ConfigError, RolekitError
from rolekit.guest.launching import orders_for
from rolekit.model.recycling import LIMITS
from rolekit.supervisor.wire import Bounds, Broken, Described, Problem, RoleSummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

    from rolekit.model import graph
    from rolekit.model.plan import AppPlan, HandlerPlan

_FRAMES = 6  # of the user's own code: enough to find the line


class ScaleLike(Protocol):
    """What is read from the scale of a role."""

    @property
    def min(self) -> int:
        """Instances, at least."""
        ...

    @property
    def max(self) -> int:
        """Instances, at most."""
        ...

    @property
    def target_age_s(self) -> float:
        """Seconds the oldest message may wait."""
        ...


class RoleLike(Protocol):
    """What is read from a role class."""

    __name__: str
    __mro__: tuple[type, ...]
    instances: int
    scale: ScaleLike | None
    bind: str | None


class AppLike(Protocol):
    """What is read from an app."""

    @property
    def name(self) -> str:
        """Of the app."""
        ...

    @property
    def roles(self) -> Sequence[RoleLike]:
        """Its role classes."""
        ...

    def problems(self) -> Sequence[graph.Problem]:
        """Say why it cannot start."""
        ...

    def plan(self) -> AppPlan:
        """Return it as data; only asked for when there are no problems."""
        ...


def load(target: str) -> AppLike:
    """Import an app.

    Args:
        target: "module:attribute"; a module alone means its attribute `app`.

    Raises:
        ConfigError: There is no such module or attribute, or it is not an app.
    """
    module_name, _, attribute = target.partition(":")
    attribute = attribute or "app"
    module = _import(module_name, target)
    found: object = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            known = [one for one in vars(module) if not one.startswith("_")]
            raise ConfigError(
                f"The module {module_name} has no attribute {attribute}."
                f"{nearest(attribute, known)}",
                fix="The app is named as module:attribute, for example mailflow.app:app.",
            )
        found = cast("object", getattr(found, name))
    if not all(hasattr(found, name) for name in ("name", "roles", "problems")):
        raise ConfigError(
            f"{target} is {type(found).__name__} and not an App.",
            fix='Name the object made by App("…", roles=[…]).',
        )
    return cast("AppLike", found)


def describe(app: AppLike) -> Described:
    """Say what an app is made of, or why it cannot start."""
    problems = tuple(Problem(f"{one.where}: {one.found}", one.fix) for one in app.problems())
    plan = None if problems else app.plan()
    handlers = () if plan is None else plan.handlers.values()
    return Described(
        app=app.name,
        roles=tuple(_summary(role, plan) for role in app.roles),
        problems=problems,
        sources={one.name: one.reads_from for one in handlers if one.reads_from},
    )


def examine(target: str) -> Described | Broken:
    """Import and describe an app; whatever its code raises becomes a sentence."""
    try:
        return describe(load(target))
    except ConfigError as error:
        return Broken(Problem(error.what, error.fix), is_usage=True)
    except AppError as error:
        return Broken(Problem(error.what, error.fix))
    except RolekitError as error:
        return Broken(Problem(error.what, error.fix), traceback=_own_frames(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - code of the user: anything comes
        what = f"Importing {target} raised {type(error).__name__}: {error}"
        fix = "The last line above is where." if error.__traceback__ else ""
        return Broken(Problem(what.rstrip(".") + ".", fix), traceback=_own_frames(error))


def _import(module_name: str, target: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a module that the app wants is missing: its traceback says more
        raise ConfigError(
            f"There is no module {error.name} (for the app {target}) in {here} or where Python "
            "looks.",
            fix="Run this in the folder that holds it, or correct the name (module:attribute).",
        ) from error
    except (ValueError, TypeError) as error:
        if module_name and not module_name.startswith("."):
            raise
        raise ConfigError(
            f"{target!r} does not name an app.",
            fix="The app is named as module:attribute, for example mailflow.app:app.",
        ) from error


def _summary(role: RoleLike, plan: AppPlan | None) -> RoleSummary:
    handlers = [] if plan is None else plan.of_role(role.__name__)
    return RoleSummary(
        name=role.__name__,
        is_web=any(
            base.__name__ == "WebRole" and base.__module__.startswith("rolekit.")
            for base in role.__mro__
        ),
        instances=role.instances,
        bind=role.bind,
        scale=_bounds(role.scale),
        handlers=tuple(handler.name for handler in handlers),
        queues=() if plan is None else tuple(plan.queues(role.__name__)),
        partitions=0 if plan is None else plan.partitions.get(role.__name__, 0),
        concurrency=getattr(role, "concurrency", 1),
        feeds=() if plan is None else _fed(handlers, plan),
        limits=_limits(role),
        containers=() if plan is None else _containers(role),
    )


def _limits(role: RoleLike) -> dict[str, object]:
    said = {name: getattr(role, name, None) for name in LIMITS}
    return {name: value for name, value in said.items() if value is not None}


def _containers(role: RoleLike) -> tuple[dict[str, object], ...]:
    return tuple(dict(order) for order in orders_for(cast("type[object]", role)))


def _bounds(scale: ScaleLike | None) -> Bounds | None:
    return None if scale is None else Bounds(scale.min, scale.max, scale.target_age_s)


def _fed(handlers: Iterable[HandlerPlan], plan: AppPlan) -> tuple[str, ...]:
    """Name the gathers that wait for what these handlers return; streams have no end."""
    reached = {name for handler in handlers for name in plan.reaches[handler.name]}
    return tuple(sorted(reached - plan.streams))


def _own_frames(error: BaseException) -> str:
    """Format where it happened, without the frames of Python's import machinery and ours."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
        and __file__ != frame.filename
        and "importlib" not in frame.filename
    ]
    return "".join(traceback.format_list(frames[-_FRAMES:]))
