"""Settings from four places, last wins: code, `rolekit.toml`, environment, `--set`.

Each value remembers where it came from, so `rolekit config` can say it. An unknown name
warns with the nearest known one and does not refuse, because Kubernetes makes variables
such as `ROLEKIT_PORT` for any service that happens to be called "rolekit".
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from rolekit.errors import ConfigError

LogFormat = Literal["auto", "pretty", "json"]

_PREFIX = "ROLEKIT_"
_READ_ELSEWHERE = {"ROLEKIT_CONFIG", "ROLEKIT_RABBITMQ_PLAIN"}
_BROKERS = ("amqp", "amqps")
_HIDDEN = "********"
_SECRET_NAME = re.compile(r"password|passwd|secret|token|api_?key|credential", re.IGNORECASE)
_LEVELS = ("debug", "info", "warning", "error", "critical")
HANDLERS = "handlers"
_ON = ("true", "1", "yes", "on")
_SWITCH = (*_ON, "false", "0", "no", "off")
_FORMATS = ("auto", "pretty", "json")
_ADDRESS = re.compile(r"[^/]*:\d+")
_TOKEN_BYTES = 32
_TOP = (
    "app",
    "broker",
    "database",
    "home",
    "log",
    "log_format",
    "grace_s",
    "horizon_s",
    "results_s",
    "keep_sent",
    "control",
    "control_token",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that is set outside the app's code.

    Attributes:
        app: "module:attribute"; empty: nothing said so.
        broker: URL of the broker; empty: the database is the broker.
        database: URL of Postgres; empty: the embedded one.
        home: Folder of the embedded database and the control socket.
        log: Lowest level that is written.
        log_format: `auto` is pretty on a terminal, JSON elsewhere.
        grace_s: Seconds a soft stop may take.
        horizon_s: Dedup window; None: as the app says.
        results_s: How long replies are kept; None: as the app says.
        keep_sent: Keep what was sent for the horizon, for `rolekit replay`.
        control: Path of the control socket, or "host:port" to answer there too; empty: in
            `home` only.
        control_token: What requests to "host:port" must carry.
        roles: Settings by role name as it was written, then by setting name. Ask
            `for_role`, since the environment writes role names in capitals.
        handlers: Settings by handler name.
        sources: Where each value came from, by dotted name.
        warnings: Sentences about names that nobody knows.
    """

    app: str = ""
    broker: str = ""
    database: str = ""
    home: Path = Path(".rolekit")
    log: str = "info"
    log_format: LogFormat = "auto"
    grace_s: float = 20
    horizon_s: float | None = None
    results_s: float | None = None
    keep_sent: bool = False
    control: str = ""
    control_token: str = field(default="", repr=False)
    roles: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    handlers: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict[str, Mapping[str, str]]
    )
    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    warnings: tuple[str, ...] = ()

    @property
    def is_embedded(self) -> bool:
        """Whether the private Postgres serves as database and broker."""
        return not self.database

    @property
    def control_address(self) -> str:
        """Where the control API listens on TCP, as "host:port"; empty: nowhere."""
        return self.control if _ADDRESS.fullmatch(self.control) else ""

    def control_path(self, app: str) -> Path:
        """Return where the control socket of an app lies."""
        if self.control and not self.control_address:
            return Path(self.control)
        return self.home / f"{app}.sock"

    def check_control(self) -> None:
        """See that who can reach the control API needs a token.

        Raises:
            ConfigError: It is to listen on TCP, with no token or a short one.
        """
        token = self.control_token
        is_plain = token.isascii() and token.isprintable() and " " not in token
        if not self.control_address or (len(token) >= _TOKEN_BYTES and is_plain):
            return
        has = f"a token of {len(token.encode())} bytes" if token else "no token"
        raise ConfigError(
            f"control is {self.control}, which others can reach, with {has}; at least "
            f"{_TOKEN_BYTES} bytes of ASCII without spaces are expected.",
            fix="Put one into ROLEKIT_CONTROL_TOKEN, or into the file that "
            "ROLEKIT_CONTROL_TOKEN_FILE names: python -c 'import secrets; "
            "print(secrets.token_urlsafe())'. Or let control be a path, or leave it out.",
        )

    def for_role(self, role: str) -> dict[str, str]:
        """Return the settings of one role, whichever way its name was written."""
        found: dict[str, str] = {}
        for name, values in self.roles.items():
            if name.casefold() == role.casefold():
                found.update(values)
        return found

    def unknown_roles(self, known: Iterable[str]) -> list[str]:
        """Say which role names in the settings the app does not have, one sentence each."""
        known = list(known)
        folded = {name.casefold() for name in known}
        return [
            f"Settings name the role {name}, which the app does not have.{nearest(name, known)}"
            for name in self.roles
            if name.casefold() not in folded
        ]

    def environment(self) -> dict[str, str]:
        """Return what a process started by this one needs to read the same settings.

        What concerns one instance travels in its spec instead; this is the rest of it.
        """
        given = {"log": self.log, "log_format": "json"}  # whoever reads it makes it pretty
        for name in ("horizon_s", "results_s"):
            value = getattr(self, name)
            if value is not None:
                given[name] = str(value)
        if self.handlers:
            given[HANDLERS] = json.dumps(self.handlers)
        given["keep_sent"] = "true" if self.keep_sent else "false"
        return {f"{_PREFIX}{name.upper()}": value for name, value in given.items()}

    def rows(self) -> list[tuple[str, str, str]]:
        """List name, value and source of each setting, secrets hidden."""
        rows = [(name, self._shown(name), self._source_of(name)) for name in _TOP]
        for kind, groups in (("roles", self.roles), ("handlers", self.handlers)):
            for group, values in groups.items():
                for name, value in values.items():
                    dotted = f"{kind}.{group}.{name}"
                    source = self.sources.get(dotted, "default")
                    rows.append((dotted, _hide(name, value, source), source))
        return rows

    def _source_of(self, name: str) -> str:
        unset = "default" if getattr(self, name) is not None else "code"
        return self.sources.get(name, unset)

    def _shown(self, name: str) -> str:
        value: object = getattr(self, name)
        if value and _SECRET_NAME.search(name):
            return _HIDDEN
        return "as the app says" if value is None else redact(str(value))


def redact(url: str) -> str:
    """Return a URL without its secrets: safe to log and to show."""
    # By pattern rather than by parsing: a password that should have been escaped holds
    # anything, and must not show because the URL is wrong.
    shown = re.sub(r"(?s)^([^:/?#]+://[^:/?#@]*):.*@", rf"\1:{_HIDDEN}@", url)
    return re.sub(r"(?i)([?&](?:password|sslpassword|token)=)[^&]*", rf"\1{_HIDDEN}", shown)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean X?" for the known word nearest to this one, or nothing."""
    by_fold = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return f" Did you mean {by_fold[found[0]]}?" if found else ""


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
        if len(path) == 1 and path[0] not in _TOP:
            self.warn(path[0], _TOP, source)
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
    known = [name.upper() for name in _TOP]
    for variable, raw in sorted(environ.items()):
        if not variable.startswith(_PREFIX) or variable in _READ_ELSEWHERE:
            continue
        name, value, source = variable.removeprefix(_PREFIX), raw, f"${variable}"
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
            found.warn(source, [f"${_PREFIX}{one}" for one in known], "environment")


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
        if name not in _TOP:
            raise ConfigError(
                f"--set {name}: there is no such setting.{nearest(name, _TOP)}",
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
    grace_s = _number("grace_s", top, found.sources)
    return Config(
        app=top.get("app", ""),
        broker=top.get("broker", ""),
        database=top.get("database", ""),
        home=Path(top.get("home", ".rolekit")),
        log=_one_of("log", top.get("log", "info").lower(), _LEVELS),
        log_format=cast(
            "LogFormat", _one_of("log_format", top.get("log_format", "auto"), _FORMATS)
        ),
        grace_s=20 if grace_s is None else grace_s,
        horizon_s=_number("horizon_s", top, found.sources),
        results_s=_number("results_s", top, found.sources),
        keep_sent=_one_of("keep_sent", top.get("keep_sent", "false").lower(), _SWITCH) in _ON,
        control=top.get("control", ""),
        control_token=top.get("control_token", ""),
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


def _one_of(name: str, value: str, known: Iterable[str]) -> str:
    if value not in known:
        raise ConfigError(
            f"{name} is {value!r}; one of {', '.join(known)} is expected."
            f"{nearest(value, known)}",
            fix=f"Correct ROLEKIT_{name.upper()} or the settings file.",
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


def _hide(name: str, value: str, source: str) -> str:
    is_secret = source.endswith("_FILE") or _SECRET_NAME.search(name)
    return _HIDDEN if is_secret else redact(value)
