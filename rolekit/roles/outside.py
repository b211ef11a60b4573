"""What an app may say of other apps: `App(outside={Invoice: "billing"})`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rolekit.model.graph import Problem
from rolekit.model.message import Reply, is_message_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,47}")


def problems_of_outside(app: str, outside: Mapping[type, str]) -> Iterator[Problem]:
    """Say what is wrong with what goes to other apps."""
    for cls, other in outside.items():
        known: object = cls
        where = f"outside={{{getattr(known, '__name__', known)}: {other!r}}}"
        if not is_message_class(known):
            yield Problem(where, "is no message class.", "Name the class that is sent.")
        elif issubclass(known, Reply):
            yield Problem(
                where,
                "is a Reply, which goes to whoever asks or follows.",
                "Send another app a Message.",
            )
        if not _NAME.fullmatch(other):
            yield Problem(
                where,
                "names no app.",
                "An app has up to 48 of a-z, A-Z, 0-9, - and _, beginning with a letter.",
            )
        elif other == app:
            yield Problem(
                where,
                "is this app itself.",
                "Leave it out: a handler of this app takes it.",
            )
