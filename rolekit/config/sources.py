"""Reading settings from file, environment and `--set`, last wins.

An unknown name warns with the nearest known one and does not refuse, because Kubernetes
makes variables such as `ROLEKIT_PORT` for any service that happens to be called "rolekit".
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rolekit.config.values import HANDLERS, PREFIX, TOP, Config, LogFormat, nearest, redact
from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_READ_ELSEWHERE = {"ROLEKIT_CONFIG", "ROLEKIT_RABBITMQ_PLAIN"}
_BROKERS = ("amqp", "amqps")
_POOLERS = ("postgresql", "postgres")
_LEVELS = ("debug", "info", "warning", "error", "critical")
_ON = ("true", "1", "yes", "on")
_SWITCH = (*_ON, "false", "0", "no", "off")
_FORMATS = ("auto", "pretty", "json")
_METHODS = ("fork", "spawn")


def load(
    environ: Mapping[str, str], *, settings: Iterable[str] = (), folder: Path | None = None
) -> Config:
    """Read the settings of this run.

    Args:
        environ: The environment.
        settings: `name=value` as given with `--set`.
        folder: Where `rolekit.toml` or `pyproject.toml` may lie; None: the current one.

    Raises:
        ConfigError: A value cannot be used, a file cannot be read, or a broker is named
            without a database.
    """
    found = _Found()
    _from_file(found, environ, folder or Path())
    _from_environment(found, environ)
    for setting in settings:
        _from_option(found, setting)
    return _finish(found)


@dataclass(slots=True)
class _Found:
    """Values by dotted name as they are met; a later one replaces an earlier one."""

    values: dict[tuple[str, ...], str] = field(default_factory=dict[tuple[str, ...], str])
    sources: dict[str, str] = field(default_factory=dict[str, str])
    warnings: list[str] = field(default_factory=list[str])

    def put(self, path: tuple[str, ...], value: object, source: str) -> None:
        if len(path) == 1 and path[0] not in TOP:
            self.warn(path[0], TOP, source)
            return
        if len(path) > 1:
            path = (path[0], self._spelled(path[0], path[1]), path[2])
        self.values[path] = _text(value)
        self.sources[".".join(path)] = source

    def _spelled(self, kind: str, group: str) -> str:
        """Return how this role was spelled before: the environment writes it in capitals."""
        for path in self.values:
            if path[0] == kind and len(path) > 1 and path[1].casefold() == group.casefold():
                return path[1]
        return group

    def warn(self, name: str, known: Iterable[str], source: str) -> None:
        self.warnings.append(
            f"{source}: {name} is not a setting and is ignored.{nearest(name, known)}"
        )


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str)  # true, 8, 4.5, ["a", "b"]: as an environment would


def _from_file(found: _Found, environ: Mapping[str, str], folder: Path) -> None:
    path, is_named = _settings_file(environ, folder)
    if path is None:
        return
    try:
        table: Mapping[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"The settings file {path} is not there.", fix="Correct ROLEKIT_CONFIG or --config."
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"The settings file {path} cannot be read: {error}.", fix="Correct it; it is TOML."
        ) from error
    if path.name == "pyproject.toml" and not is_named:
        table = _table(_table(table.get("tool", {}), "tool").get("rolekit", {}), "tool.rolekit")
    for name, value in table.items():
        if name in ("roles", "handlers"):
            for group, values in _table(value, name).items():
                for key, one in _table(values, f"{name}.{group}").items():
                    found.put((name, group, key), one, str(path))
        else:
            found.put((name,), value, str(path))


def _settings_file(environ: Mapping[str, str], folder: Path) -> tuple[Path | None, bool]:
    if named := environ.get("ROLEKIT_CONFIG"):
        return Path(named), True
    for name in ("rolekit.toml", "pyproject.toml"):
        if (folder / name).is_file():
            return folder / name, False
    return None, False


def _table(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ConfigError(
            f"[{name}] in the settings file is {value!r}; a table is expected.",
            fix=f"Write [{name}] and one line for each setting below it.",
        )
    return cast("dict[str, object]", value)


def _from_environment(found: _Found, environ: Mapping[str, str]) -> None:
    known = [name.upper() for name in TOP]
    for variable, raw in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in _READ_ELSEWHERE:
            continue
        name, value, source = variable.removeprefix(PREFIX), raw, f"${variable}"
        if name.endswith("_FILE"):
            name, value = name.removesuffix("_FILE"), _read_secret(variable, raw)
        role, separator, setting = name.partition("__")
        if separator:
            found.put(("roles", role, setting.lower()), value, source)
        elif name in known:
            found.put((name.lower(),), value, source)
        elif name == HANDLERS.upper():
            _from_supervisor(found, value, source)
        else:
            found.warn(source, [f"${PREFIX}{one}" for one in known], "environment")


def _from_supervisor(found: _Found, text: str, source: str) -> None:
    """Take the settings of handlers as the process that started this one wrote them."""
    try:
        groups: object = json.loads(text)
    except ValueError:
        groups = text
    for group, values in _table(groups, source).items():
        for key, value in _table(values, f"{source}.{group}").items():
            found.put((HANDLERS, group, key), value, source)


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"${variable} names {path}, which cannot be read: {error}.",
            fix="Name a text file that this user may read.",
        ) from error


def _from_option(found: _Found, setting: str) -> None:
    name, equals, value = setting.partition("=")
    name = name.strip()
    if not equals or not name:
        raise ConfigError(
            f"--set {setting} has no value; name=value is expected.",
            fix="For example --set grace_s=5, or --set Deliverer.instances=8.",
        )
    group, dot, key = name.rpartition(".")
    if not dot:
        if name not in TOP:
            raise ConfigError(
                f"--set {name}: there is no such setting.{nearest(name, TOP)}",
                fix="`rolekit config` lists them all.",
            )
        found.put((name,), value, "--set")
    else:
        kind = "handlers" if "." in group else "roles"
        found.put((kind, group, key), value, "--set")


def _finish(found: _Found) -> Config:
    top = {path[0]: value for path, value in found.values.items() if len(path) == 1}
    groups: dict[str, dict[str, dict[str, str]]] = {"roles": {}, "handlers": {}}
    for path, value in found.values.items():
        if len(path) > 1:
            kind, group, key = path
            groups[kind].setdefault(group, {})[key] = value
    if top.get("broker") and not top.get("database"):
        raise ConfigError(
            f"A broker is named ({redact(top['broker'])}) but no database; rolekit keeps what "
            "took effect in Postgres.",
            fix="Set ROLEKIT_DATABASE too, or leave out both for the embedded Postgres.",
        )
    _check_broker(top)
    _check_pooler(top)
    slow_s = _number("slow_s", top, found.sources)
    grace_s = _number("grace_s", top, found.sources)
    return Config(
        app=top.get("app", ""),
        broker=top.get("broker", ""),
        database=top.get("database", ""),
        pooler=top.get("pooler", ""),
        home=Path(top.get("home", ".rolekit")),
        log=_one_of("log", top.get("log", "info").lower(), _LEVELS),
        log_format=cast(
            "LogFormat", _one_of("log_format", top.get("log_format", "auto"), _FORMATS)
        ),
        grace_s=20 if grace_s is None else grace_s,
        horizon_s=_number("horizon_s", top, found.sources),
        results_s=_number("results_s", top, found.sources),
        keep_sent=_one_of("keep_sent", top.get("keep_sent", "false").lower(), _SWITCH) in _ON,
        start_method=_one_of("start_method", top.get("start_method", "fork"), _METHODS),
        traces=share("traces", top.get("traces", "0.01")),
        slow_s=1.0 if slow_s is None else slow_s,
        otlp=top.get("otlp", ""),
        trace_page=top.get("trace_page", ""),
        control=top.get("control", ""),
        control_token=top.get("control_token", ""),
        dashboard_token=top.get("dashboard_token", ""),
        dashboard_certificate=top.get("dashboard_certificate", ""),
        dashboard_key=top.get("dashboard_key", ""),
        roles=groups["roles"],
        handlers=groups["handlers"],
        sources=found.sources,
        warnings=tuple(found.warnings),
    )


def _check_broker(top: Mapping[str, str]) -> None:
    broker, database = top.get("broker", ""), top.get("database", "")
    scheme = broker.partition("://")[0]
    if broker and broker != database and scheme not in _BROKERS:
        raise ConfigError(
            f"broker is {redact(broker)}; amqp:// or amqps:// is expected, or the URL of the "
            "database itself.",
            fix="Leave out ROLEKIT_BROKER; messages then travel through the database.",
        )


def _check_pooler(top: Mapping[str, str]) -> None:
    pooler, database = top.get("pooler", ""), top.get("database", "")
    if not pooler:
        return
    if not database:
        raise ConfigError(
            f"A pooler is named ({redact(pooler)}) but no database; what listens and keeps the "
            "lease connects to Postgres itself.",
            fix="Set ROLEKIT_DATABASE to the server behind it, or leave out ROLEKIT_POOLER.",
        )
    if pooler.partition("://")[0] not in _POOLERS:
        raise ConfigError(
            f"pooler is {redact(pooler)}; the postgresql:// URL of PgBouncer, or of a pooler "
            "like it, is expected.",
            fix="Correct ROLEKIT_POOLER, for example postgresql://user@127.0.0.1:6432/name.",
        )
    if pooler == database:
        raise ConfigError(
            f"pooler and database are both {redact(pooler)}; listening for wake-ups does not "
            "work through a pooler.",
            fix="Set ROLEKIT_DATABASE to the server itself, or leave out ROLEKIT_POOLER.",
        )


def _one_of(name: str, value: str, known: Iterable[str]) -> str:
    if value not in known:
        raise ConfigError(
            f"{name} is {value!r}; one of {', '.join(known)} is expected."
            f"{nearest(value, known)}",
            fix="Correct it in the environment or the settings file; `rolekit config` says "
            "where it comes from.",
        )
    return value


def level(name: str, text: str) -> str:
    """Read a level of log lines.

    Raises:
        ConfigError: It is none.
    """
    return _one_of(name, text.lower(), _LEVELS)


def share(name: str, text: str) -> float | None:
    """Read a share of traces; None: off.

    Raises:
        ConfigError: It is neither.
    """
    if text.lower() == "off":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise ConfigError(
            f"{name} is {text!r}; a share from 0 to 1 is expected, or off.",
            fix="Write 1 to trace everything, 0.01 for one in a hundred.",
        )
    return value


def _number(name: str, top: Mapping[str, str], sources: Mapping[str, str]) -> float | None:
    if name not in top:
        return None
    try:
        value = float(top[name])
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise ConfigError(
            f"{name} is {top[name]!r} ({sources[name]}); seconds, 0 or more, are expected.",
            fix="Write a number, for example 20.",
        )
    return value
