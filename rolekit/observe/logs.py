"""Log lines: pretty on a terminal, JSON elsewhere, and never able to forge another line.

Each line carries `app`, `role` and `instance` where they are known. Values that came with
a message may hold anything, so control characters are written as escapes in both forms.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import Processor, WrappedLogger

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_OWN_LINES = frozenset({"exception", "stack"})  # written by us, meant to have many lines


def set_up(level: str, form: str, **fields: object) -> None:
    """Send structlog and the standard library's logging to standard error, in one form.

    Safe to call again: an instance calls it after its birth with fields of its own.

    Args:
        level: Lowest level that is written: debug, info, warning, error or critical.
        form: `pretty`, `json`, or `auto`: pretty on a terminal.
        fields: What each line of this process carries: app, role, instance.
    """
    is_pretty = form == "pretty" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if not is_pretty else "%H:%M:%S", utc=True),
        _Fields(fields),
    ]
    if not is_pretty:
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
        if is_pretty
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def escape_control(
    _logger: WrappedLogger, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Write control characters as escapes, so that no value can forge a line or a colour."""
    for name, value in event.items():
        if isinstance(value, str) and name not in _OWN_LINES:
            event[name] = _CONTROL.sub(_escaped, value)
    return event


def _escaped(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")


class _Fields:
    """Adds what is the same for each line of a process."""

    def __init__(self, fields: MutableMapping[str, object]) -> None:
        self._fields = fields

    def __call__(
        self, _logger: WrappedLogger, _method: str, event: MutableMapping[str, object]
    ) -> MutableMapping[str, object]:
        return {**self._fields, **event}
