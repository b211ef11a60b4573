"""An app: roles, read and joined when it is made, checked before it starts."""

from __future__ import annotations

import importlib
import re
import sys
from functools import cached_property
from inspect import isfunction, signature
from typing import TYPE_CHECKING, Any, Literal

from rolekit.errors import AppError
from rolekit.model.graph import Graph, Problem, draw
from rolekit.model.message import wire_name
from rolekit.model.plan import AppPlan
from rolekit.model.policy import Backoff
from rolekit.roles.base import Role
from rolekit.roles.declare import declared_on
from rolekit.roles.http_routes import problems_of
from rolekit.roles.inspect import Found, read_role
from rolekit.roles.keyed import partitions_of, problems_of_keys
from rolekit.roles.outside import problems_of_outside
from rolekit.roles.rates import problems_of_rates
from rolekit.roles.scales import problems_of_scales
from rolekit.roles.settings import settings_of
from rolekit.roles.sources import problems_of_sources
from rolekit.roles.unavailable import unavailable_in
from rolekit.roles.vm import problems_of_guests
from rolekit.roles.web import WebRole
from rolekit.roles.worker import WorkerRole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from rolekit.flow.client import Client


_RETRY = Backoff()
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,47}")


class App:
    """Roles that work together.

    Making one reads the annotations of all roles, so it stands below them in its module.
    It starts nothing, and what does not fit is said by `problems`, not raised here; except
    for a role that is no class of roles at all, which raises `AppError`.

    Args:
        name: Names the schema in Postgres, and the queues on a broker.
        roles: Classes; modules may export lists of them.
        retry: For handlers whose own policies do not match an error.
        codec: How messages are encoded; both forms are read.
        horizon_s: How long after its birth a message may still take effect.
        results_s: How long replies are kept.
        names: Wire names of message classes that are not ours to name.
        outside: Message classes that another app handles, with its name.
        observers: Called with each event.
    """

    def __init__(  # noqa: PLR0913 - each has a default and is named
        self,
        name: str,
        *,
        roles: Iterable[type[Role]],
        retry: Backoff = Backoff(),  # noqa: B008 - frozen
        codec: Literal["json", "msgpack"] = "json",
        horizon_s: float = 7 * 86400,
        results_s: float = 86400,
        names: Mapping[type, str] = {},
        outside: Mapping[type, str] = {},
        observers: Sequence[Callable[[object], None]] = (),
    ) -> None:
        self.name = name
        self.roles: tuple[type[Role], ...] = tuple(map(_as_role, roles))
        self.retry = retry
        self.codec: Literal["json", "msgpack"] = codec
        self.horizon_s = horizon_s
        self.results_s = results_s
        self.names = dict(names)
        self.outside = dict(outside)
        self.observers = tuple(observers)
        self._found, self._problems = _read(self.roles)

    def role(self, name: str) -> type[Role]:
        """Return the role of this class name.

        Raises:
            AppError: The app has none of that name.
        """
        for role in self.roles:
            if role.__name__ == name:
                return role
        known = ", ".join(role.__name__ for role in self.roles)
        raise AppError(f"{self.name} has no role {name!r}; its roles are {known}.")

    def problems(self) -> list[Problem]:
        """Say everything that keeps this app from starting; empty when it may."""
        return [
            *_check_app(self),
            *self._problems,
            *self._graph.problems,
            *problems_of_keys(self.roles, self._found),
            *problems_of_sources(self.name, self._found),
            *problems_of_outside(self.name, self.outside),
            *problems_of_rates(self._found),
            *problems_of_scales(self.roles, self._found),
            *problems_of_guests(self.roles),
            *unavailable_in(observed=bool(self.observers)),
        ]

    def plan(self) -> AppPlan:
        """Return the app as data, checked.

        Raises:
            AppError: It has problems; the message lists them as `rolekit check` does.
        """
        problems = self.problems()
        if problems:
            count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
            raise AppError("\n".join([f"{self.name}: {count}", *map(str, problems)]))
        graph = self._graph
        return AppPlan(
            name=self.name,
            handlers=graph.handlers,
            destinations=graph.destinations,
            reaches=graph.reaches,
            opens=graph.opens,
            wire_names=graph.wire_names,
            types=graph.types,
            told=graph.told,
            streams=graph.streams,
            retry=self.retry,
            codec=self.codec,
            horizon_s=self.horizon_s,
            results_s=self.results_s,
            outside=self.outside,
            partitions=partitions_of(self.roles, self._found),
        )

    def client(self) -> AbstractAsyncContextManager[Client]:
        """Connect from outside: a script, another web framework, a test of a deployment."""
        # Late and by name: wiring knows the adapters, and stands above roles.
        wiring: Any = importlib.import_module("rolekit.wiring")
        opened: AbstractAsyncContextManager[Client] = wiring.open_client(self)
        return opened

    @cached_property
    def _graph(self) -> Graph:
        elsewhere = {cls: wire_name(cls) for cls in self.outside}
        plans = [found.plan for found in self._found]
        return draw(plans, elsewhere | self.names, self.outside)


def _as_role(role: object) -> type[Role]:
    if isinstance(role, type) and issubclass(role, Role):
        return role
    raise AppError(
        f"App(roles=[...]) was given {role!r}; a role is a subclass of WorkerRole, VMRole or "
        "WebRole.",
        fix="Pass the class, not an instance of it.",
    )


def _read(roles: Sequence[type[Role]]) -> tuple[list[Found], list[Problem]]:
    found: list[Found] = []
    problems: list[Problem] = []
    for role in roles:
        handlers, wrong = read_role(role)
        found += handlers
        problems += wrong
        if handlers and not issubclass(role, WorkerRole):
            problems.append(
                Problem(
                    handlers[0].place,
                    f"is a handler, but {role.__name__} is not a WorkerRole.",
                    "Move it to a WorkerRole; a WebRole sends messages with self.client.",
                )
            )
    return found, [*problems, *_outside_roles(roles)]


def _outside_roles(roles: Sequence[type[Role]]) -> list[Problem]:
    """Find functions that were decorated but stand in no class, beside the roles."""
    modules = dict.fromkeys(role.__module__ for role in roles)
    return [
        Problem(
            f"{module}.{name}",
            "is decorated as a handler, but belongs to no role.",
            "Make it a method of a WorkerRole.",
        )
        for module in modules
        for name, value in vars(sys.modules.get(module, object)).items()
        if isfunction(value) and value.__module__ == module and declared_on(value)
    ]


def _check_app(app: App) -> list[Problem]:
    problems: list[Problem] = []
    if not _NAME.fullmatch(app.name):
        problems.append(
            Problem(
                f"App({app.name!r})",
                "the name cannot name a schema.",
                "Use at most 48 of a-z, A-Z, 0-9, - and _, beginning with a letter.",
            )
        )
    if not app.roles:
        problems.append(Problem(app.name, "has no roles.", "Pass them: App(..., roles=[...])."))
    names = [role.__name__ for role in app.roles]
    for index, role in enumerate(app.roles):
        problems += _check_role(role, names[:index])
    return problems


def _check_role(role: type[Role], before: Sequence[str]) -> Iterator[Problem]:
    if issubclass(role, WebRole):
        for error in problems_of(role):
            where, _, what = error.what.partition(": ")
            yield Problem(where, what, error.fix)
    place = f"{role.__module__}.{role.__qualname__}"
    if role.__name__ in before:
        yield Problem(
            place,
            "is called like another role of this app; settings and instances go by that name.",
            "Rename one of them, and leave a role out that is listed twice.",
        )
    try:
        signature(role).bind()
    except TypeError as error:
        yield Problem(
            place,
            f"cannot be made without arguments: {error}.",
            "Leave __init__ out; what an instance needs is made in on_start, or is a setting.",
        )
    try:
        settings_of(role)
    except AppError as error:
        yield Problem(role.__name__, error.what, error.fix)
