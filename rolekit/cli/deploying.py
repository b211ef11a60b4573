"""Read off an app and its settings what is to run in containers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolekit.cli.deployment import HOME, MOST_CHARACTERS, Deployment, Part
from rolekit.config import is_secret
from rolekit.errors import ConfigError
from rolekit.model.message import Secret
from rolekit.roles.host import FRAMEWORK
from rolekit.roles.settings import apply, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rolekit.config import Config
    from rolekit.roles.app import App
    from rolekit.roles.base import Role
    from rolekit.supervisor.wire import Described, RoleSummary

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_SUPERVISOR_MB, _INSTANCE_MB = 192, 128
_SUPERVISOR_PIDS, _INSTANCE_PIDS = 128, 8
_WHOLE = (
    *("log", "log_format", "grace_s", "horizon_s", "results_s", "keep_sent"),
    *("start_method", "traces", "slow_s", "otlp", "trace_page"),
)
"""Settings of the whole app that mean the same in a container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line says about a deployment.

    Attributes:
        image: Empty: the app's name.
        roles: Only these; none: all.
        has_broker: There is a RabbitMQ, though no settings name one here.
        is_spread: An instance a container; otherwise a role has all of them in one.
        stop_s: What a container gets to stop.
    """

    stop_s: int
    image: str = ""
    roles: tuple[str, ...] = ()
    has_broker: bool = False
    is_spread: bool = False


def deployment(config: Config, found: Described, app: App, wish: Wish) -> Deployment:
    """Say what is to run.

    Raises:
        ConfigError: A role is not there, lacks a setting, or has one that no container can
            have; or the image has no name that an engine takes.
    """
    chosen = found.only(wish.roles) if wish.roles else found
    name = _name(found.app.strip("-_"), "the app")
    image = wish.image or name
    if not _IMAGE.fullmatch(image):
        raise ConfigError(
            f"--image is {image!r}, which is no name of an image.",
            fix="For example --image registry.example.org/mailflow:1.4.",
        )
    shared, secrets = _shared(config, has_broker=wish.has_broker)
    parts = tuple(
        _part(summary, app.role(summary.name), config, wish, shared, secrets)
        for summary in chosen.roles
    )
    address = config.control_address
    return Deployment(
        name=name,
        image=image,
        stop_s=wish.stop_s,
        control_port=int(address.rpartition(":")[2]) if address else None,
        parts=parts,
    )


def literal(text: str) -> str:
    """Write what neither Compose nor Kubernetes is to take for the name of a variable.

    Source: Compose specification, "Interpolation"; Kubernetes, `EnvVar.value`.
    """
    return text.replace("$", "$$")


def _shared(config: Config, *, has_broker: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Return variables and secrets that each container has."""
    given = {"ROLEKIT_APP": config.app, "ROLEKIT_HOME": HOME}
    hidden = ["database"]
    if has_broker or config.broker not in ("", config.database):
        hidden.append("broker")
    if config.pooler:
        hidden.append("pooler")
    for name in _WHOLE:
        source = config.sources.get(name, "")
        value = _written(getattr(config, name))
        if source and value and is_secret(name, value, source):
            hidden.append(name)
        elif source or name == "grace_s":
            given[_whole(name)] = value
    if config.handlers:
        given["ROLEKIT_HANDLERS"] = json.dumps(config.handlers)
    if config.control_address:
        given["ROLEKIT_CONTROL"] = f"0.0.0.0:{config.control_address.rpartition(':')[2]}"
        hidden.append("control_token")
    return given, {name: _whole(name) for name in hidden}


def _whole(setting: str) -> str:
    return f"ROLEKIT_{setting.upper()}"


def _written(value: object) -> str:
    """Write a setting as the environment has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _part(
    summary: RoleSummary,
    role: type[Role],
    config: Config,
    wish: Wish,
    shared: Mapping[str, str],
    shared_secrets: Mapping[str, str],
) -> Part:
    values = config.for_role(summary.name)
    hidden = _hidden(role, values, config)
    own = _checked(role, values, hidden)
    count = max(1, own.instances)
    concurrency = int(getattr(own, "concurrency", 1))
    is_spread = wish.is_spread and summary.scale is None
    environment = {**shared, **_environment(summary.name, values, hidden)}
    bind = values.get("bind", summary.bind)
    port = None if bind is None else _port(summary.name, bind)
    if port is not None:
        environment[_variable(summary.name, "bind")] = f"0.0.0.0:{port}"
    if is_spread:
        environment[_variable(summary.name, "instances")] = "1"
    held = 1 if is_spread else count if summary.scale is None else summary.scale.max
    name = _name(summary.name, f"the role {summary.name}")
    prefix = name.replace("-", "_")
    secrets = {f"{prefix}_{one}": _variable(summary.name, one) for one in hidden}
    return Part(
        role=summary.name,
        name=name,
        is_web=summary.is_web,
        port=port,
        replicas=own.instances if is_spread else 1,
        environment={variable: literal(value) for variable, value in environment.items()},
        secrets={**shared_secrets, **secrets},
        memory_mb=_memory_mb(own.max_memory_mb, held),
        pids=_SUPERVISOR_PIDS + held * (_INSTANCE_PIDS + 2 * concurrency),
        start_s=own.start_s,
    )


def _memory_mb(most_mb: float | None, instances: int) -> int:
    """Return what a supervisor and so many instances may take; see `Role.max_memory_mb`."""
    each_mb = max(_INSTANCE_MB, 2 * int(most_mb or 0))
    return _SUPERVISOR_MB + instances * each_mb


def _hidden(role: type[Role], values: Mapping[str, str], config: Config) -> list[str]:
    """Name the settings of a role that no file may show."""
    kinds = {setting.name: setting for setting in settings_of(role)}
    secret = [
        name
        for name, setting in kinds.items()
        if setting.type is Secret and (setting.is_required or name in values)
    ]
    others = [
        name
        for name, value in values.items()
        if name not in secret and is_secret(name, value, _source(config, role.__name__, name))
    ]
    return secret + others


def _source(config: Config, role: str, setting: str) -> str:
    wanted = f"roles.{role}.{setting}".casefold()
    found = (one for name, one in config.sources.items() if name.casefold() == wanted)
    return next(found, "")


def _checked(role: type[Role], values: Mapping[str, str], hidden: Iterable[str]) -> Role:
    """Return an instance with these settings; secrets that are not here yet are made up.

    Raises:
        ConfigError: As `rolekit.roles.settings.apply`; or instances are less than none.
    """
    known = {setting.name for setting in settings_of(role)}
    fits = {name: one for name, one in values.items() if name in known or name not in FRAMEWORK}
    own = role()
    apply(own, {**dict.fromkeys(hidden, "********"), **fits})
    if own.instances < 0:
        raise ConfigError(
            f"{role.__name__} has instances = {own.instances}; 0 or more are expected.",
            fix="Change it where `rolekit config` says it comes from.",
        )
    return own


def _environment(role: str, values: Mapping[str, str], hidden: Iterable[str]) -> dict[str, str]:
    shown = {name: value for name, value in values.items() if name not in hidden}
    return {_variable(role, name): value for name, value in shown.items()}


def _variable(role: str, setting: str) -> str:
    return f"ROLEKIT_{role.upper()}__{setting.upper()}"


def _port(role: str, bind: str) -> int:
    port = bind.rpartition(":")[2]
    if not port.isdigit() or not 0 < int(port) <= 65_535:  # noqa: PLR2004 - of TCP
        raise ConfigError(
            f"{role} has bind = {bind!r}; in a container others must know its port.",
            fix=f"Name one from 1 to 65535, for example --set {role}.bind=0.0.0.0:8000.",
        )
    return int(port)


def _name(text: str, what: str) -> str:
    """Return a name that DNS takes.

    Raises:
        ConfigError: It cannot be one.
    """
    name = text.lower().replace("_", "-")
    if not _NAME.fullmatch(name) or len(name) > MOST_CHARACTERS:
        raise ConfigError(
            f"{what[0].upper()}{what[1:]} would be called {name!r}, which DNS does not take.",
            fix="Use letters, digits and _ only, neither first nor last, at most "
            f"{MOST_CHARACTERS} of them.",
        )
    return name
