"""What is set outside the app's code, where each value came from, and how it is shown."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rolekit.errors import ConfigError

LogFormat = Literal["auto", "pretty", "json"]

PREFIX = "ROLEKIT_"
HANDLERS = "handlers"
TOP = (
    "app",
    "broker",
    "database",
    "pooler",
    "home",
    "log",
    "log_format",
    "grace_s",
    "horizon_s",
    "results_s",
    "keep_sent",
    "start_method",
    "traces",
    "slow_s",
    "otlp",
    "trace_page",
    "control",
    "control_token",
    "dashboard_token",
    "dashboard_certificate",
    "dashboard_key",
)
"""Settings that are no role's and no handler's."""
_HIDDEN = "********"
_SECRET_NAME = re.compile(r"password|passwd|secret|token|api_?key|credential", re.IGNORECASE)
_ADDRESS = re.compile(r"[^/]*:\d+")
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that is set outside the app's code.

    Attributes:
        app: "module:attribute"; empty: nothing said so.
        broker: URL of the broker; empty: the database is the broker.
        database: URL of Postgres; empty: the embedded one.
        pooler: URL of a pooler in front of `database`, such as PgBouncer in transaction mode,
            that instances of `rolekit up` connect to; empty: they connect to `database`.
        home: Folder of the embedded database and the control socket.
        log: Lowest level that is written.
        log_format: `auto` is pretty on a terminal, JSON elsewhere.
        grace_s: Seconds a soft stop may take.
        horizon_s: Dedup window; None: as the app says.
        results_s: How long replies are kept; None: as the app says.
        start_method: How `rolekit up` starts instances: "fork" from one process that has
            imported the app, or "spawn", where each imports it itself.
        keep_sent: Keep what was sent for the horizon, for `rolekit replay`.
        traces: Share of traces that is kept, 0 to 1, of those that begin; None: nothing is
            traced, whatever happens.
        slow_s: What waits or runs longer is traced from there on.
        otlp: URL of a collector that gets all spans, over OTLP; empty: as the variables of
            OpenTelemetry say.
        trace_page: Where a trace can be looked at, with {trace_id} for its id; or empty.
        control: Path of the control socket, or "host:port" to answer there too; empty: in
            `home` only.
        control_token: What requests to "host:port" must carry.
        dashboard_token: What a browser is asked for by a dashboard that others can reach;
            empty: `control_token`.
        dashboard_certificate: PEM file with the certificate, and those that lead to it, of a
            dashboard that others can reach; or "elsewhere": TLS ends in front of it.
        dashboard_key: PEM file with its key; empty: it is in the same file.
        roles: Settings by role name as it was written, then by setting name. Ask
            `for_role`, since the environment writes role names in capitals.
        handlers: Settings by handler name.
        sources: Where each value came from, by dotted name.
        warnings: Sentences about names that nobody knows.
    """

    app: str = ""
    broker: str = ""
    database: str = ""
    pooler: str = ""
    home: Path = Path(".rolekit")
    log: str = "info"
    log_format: LogFormat = "auto"
    grace_s: float = 20
    horizon_s: float | None = None
    results_s: float | None = None
    keep_sent: bool = False
    start_method: str = "fork"
    traces: float | None = 0.01
    slow_s: float = 1.0
    otlp: str = ""
    trace_page: str = ""
    control: str = ""
    control_token: str = field(default="", repr=False)
    dashboard_token: str = field(default="", repr=False)
    dashboard_certificate: str = ""
    dashboard_key: str = ""
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
        given["traces"] = "off" if self.traces is None else str(self.traces)
        given["slow_s"] = str(self.slow_s)
        return {f"{PREFIX}{name.upper()}": value for name, value in given.items()}

    def rows(self) -> list[tuple[str, str, str]]:
        """List name, value and source of each setting, secrets hidden."""
        rows = [(name, self._shown(name), self._source_of(name)) for name in TOP]
        for kind, groups in (("roles", self.roles), ("handlers", self.handlers)):
            for group, values in groups.items():
                for name, value in values.items():
                    dotted = f"{kind}.{group}.{name}"
                    source = self.sources.get(dotted, "default")
                    rows.append((dotted, _hide(name, value, source), source))
        return rows

    def _source_of(self, name: str) -> str:
        is_set = name == "traces" or getattr(self, name) is not None
        unset = "default" if is_set else "code"
        return self.sources.get(name, unset)

    def _shown(self, name: str) -> str:
        value: object = getattr(self, name)
        if name == "traces" and value is None:
            return "off"
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


def is_secret(name: str, value: str, source: str) -> bool:
    """Say whether a setting is not to be shown as it is.

    Args:
        name: Of the setting.
        value: As it was given.
        source: Where it came from, as in `Config.sources`.
    """
    return _hide(name, value, source) != value


def _hide(name: str, value: str, source: str) -> str:
    is_whole = source.endswith("_FILE") or _SECRET_NAME.search(name)
    return _HIDDEN if is_whole else redact(value)
