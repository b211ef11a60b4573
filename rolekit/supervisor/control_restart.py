"""What `POST /restart` is told, and what it tells: a line of JSON for each thing done."""

from __future__ import annotations

from typing import Annotated

import msgspec

from rolekit.model.recycling import DOMAINS
from rolekit.supervisor.wire import Problem

_Domains = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class RestartOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Restart a role, or all of them if none is named, from `to` or the code as it is now."""

    role: str = ""
    to: str = ""
    domains: _Domains = DOMAINS
    ready_s: _Seconds | None = None


class RestartNews(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, or how it ended.

    Attributes:
        line: A sentence; empty: still under way.
        is_done: The last line of a restart that did what was asked.
        is_aborted: The last line of one that went back, or never began.
        problems: Why it never began.
        is_usage: What was asked for is wrong, rather than the app.
        traceback: Of the app's own code, if that raised.
    """

    line: str = ""
    is_done: bool = False
    is_aborted: bool = False
    problems: tuple[Problem, ...] = ()
    is_usage: bool = False
    traceback: str = ""
