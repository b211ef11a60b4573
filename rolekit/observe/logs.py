"""Log lines: pretty on a terminal, JSON elsewhere, and never able to forge another line.

Each line carries `app`, `role` and `instance` where they are known, and the message in hand
and its trace, also lines that a handler logs. Values that came with a message may hold
anything, so control characters are written as escapes in both forms.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, cast

import structlog

from rolekit.model.message import Secret
from rolekit.observe.current import name_message

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, MutableMapping

    from structlog.typing import Processor, WrappedLogger

HIDDEN = "********"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_CONTROL_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_OWN_LINES = frozenset({"exception", "stack"})  # written by us, meant to have many lines


def set_up(level: str, form: str, **fields: object) -> None:
    """Send structlog and the standard library's logging to standard error, in one form.

    Safe to call again: an instance calls it after its birth with fields of its own, which
    is all that changes then. (Making everything anew costs each instance 0.8 MB.)

    Args:
        level: Lowest level that is written: debug, info, warning, error or critical.
        form: `pretty`, `json`, or `auto`: pretty on a terminal.
        fields: What each line of this process carries: app, role, instance.
    """
    pretty = is_pretty(form)
    root = logging.getLogger()
    how = (level, pretty, sys.stderr)
    if _shared.how == how and root.handlers == [_shared.handler] and structlog.is_configured():
        _shared.values = fields
        return
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        name_message,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if not pretty else "%H:%M:%S", utc=True),
        _shared,
    ]
    if not pretty:
        shared.append(structlog.processors.format_exc_info)
    shared.append(escape_control)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if pretty
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_hide_arguments)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _shared.how, _shared.handler, _shared.values = how, handler, fields


def set_level(level: str) -> None:
    """Write lines from this level on, from now on.

    Args:
        level: One of `LEVELS`.
    """
    if _shared.how is None or _shared.how[0] == level:
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    logging.getLogger().setLevel(level.upper())
    _shared.how = (level, *_shared.how[1:])


def is_pretty(form: str) -> bool:
    """Say whether lines are made for people's eyes in this form."""
    return form == "pretty" or (form == "auto" and sys.stderr.isatty())


def prettier(*, colors: bool | None = None) -> Callable[[bytes], bytes]:
    """Make what turns a line of JSON into one for people; it leaves others as they are."""
    render = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty() if colors is None else colors
    )

    def pretty(line: bytes) -> bytes:
        if not line.startswith(b"{"):
            return line
        try:
            found: object = json.loads(line)
        except ValueError:
            return line
        if not isinstance(found, dict) or "event" not in found:
            return line
        event = escape_control(None, "", cast("dict[str, object]", found))
        for name in _OWN_LINES & event.keys():
            event[name] = _CONTROL_IN_LINES.sub(_escaped, str(event[name]))
        time = str(event.get("timestamp", ""))
        if _ISO.match(time):
            event["timestamp"] = time[11:19]
        return render(None, "", event).encode()

    return pretty


@contextmanager
def copied(sink: Callable[[str], None]) -> Generator[None]:
    """Give every line of this process to `sink` as well, as JSON, while inside."""
    handler = _Copy(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=[structlog.processors.add_log_level, escape_control],
        )
    )
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class _Copy(logging.Handler):
    """Gives lines away."""

    def __init__(self, sink: Callable[[str], None]) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        self._sink(self.format(record))


def escape_control(
    _logger: WrappedLogger | None, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Write control characters as escapes, so that no value can forge a line or a colour.

    Secrets are hidden, wherever they stand.
    """
    for name, value in event.items():
        if isinstance(value, str) and not isinstance(value, Secret):
            if name not in _OWN_LINES:
                event[name] = _CONTROL.sub(_escaped, value)
        elif isinstance(value, (Secret, dict, list, tuple)):
            event[name] = _without_secrets(cast("object", value))
    return event


def _without_secrets(value: object) -> object:
    if isinstance(value, Secret):
        return HIDDEN
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return {key: _without_secrets(one) for key, one in items}
    if isinstance(value, (list, tuple)):
        return [_without_secrets(one) for one in cast("list[object]", value)]
    return value


def _hide_arguments(record: logging.LogRecord) -> bool:
    """Hide secrets among what a line of the standard library is about to be made of."""
    if isinstance(record.args, tuple):
        record.args = tuple(HIDDEN if isinstance(one, Secret) else one for one in record.args)
    return True


def _escaped(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")


class _Shared:
    """Adds what is the same for each line of a process; knows how that is set up now."""

    def __init__(self) -> None:
        self.values: Mapping[str, object] = {}
        self.handler: logging.Handler | None = None
        self.how: tuple[str, bool, TextIO] | None = None

    def __call__(
        self, _logger: WrappedLogger, _method: str, event: MutableMapping[str, object]
    ) -> MutableMapping[str, object]:
        return {**self.values, **event}


_shared = _Shared()
