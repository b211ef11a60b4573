"""Which dead letters a command means: ids, and filters that are combined."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.times import time_ms
from rolekit.errors import ConfigError
from rolekit.store.letters import Letters

if TYPE_CHECKING:
    from collections.abc import Sequence

IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="ID…", help="As listed, or how they begin.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All that are open.")]
HandlerOption = Annotated[str, typer.Option("--handler", help="Only of this handler.")]
TypeOption = Annotated[str, typer.Option("--type", help="Only of messages of this type.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Only with this text in the reason.")
]
SinceOption = Annotated[
    str, typer.Option("--since", metavar="TIME", help="Only since then: 2h, or a date.")
]
UntilOption = Annotated[
    str, typer.Option("--until", metavar="TIME", help="Only from before: 10m, or a date.")
]
AnsweredOption = Annotated[
    bool, typer.Option("--answered", help="Also those that a DeadLetter handler was told of.")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say which; change nothing.")]


def chosen(  # noqa: PLR0913 - each is an option
    ids: Sequence[str] | None,
    *,
    handler: str,
    type_: str,
    reason: str,
    since: str,
    until: str,
    answered: bool = False,
) -> Letters:
    """Read what a command was told about which ones.

    Raises:
        ConfigError: A time is none, or an id is empty.
    """
    now = dt.datetime.now(dt.UTC)
    if any(not id_ for id_ in ids or ()):
        raise ConfigError("An id is empty.", fix="Name how it begins, or say --all.")
    return Letters(
        handler=handler,
        type=type_,
        reason=reason,
        since_ms=time_ms(since, now) if since else None,
        until_ms=time_ms(until, now) if until else None,
        prefixes=tuple(ids or ()),
        answered=answered,
    )


def deliberate(which: Letters, *, everything: bool) -> Letters:
    """Refuse to change all of them unless that is said, and to be told twice.

    Raises:
        ConfigError: Nothing says which ones; or both `--all` and something narrower do.
    """
    is_narrow = _narrows(which)
    if is_narrow == everything:
        raise ConfigError(
            "Which dead letters?"
            if not everything
            else "Which dead letters? --all is said, and something narrower too.",
            fix="Name ids or how they begin, --handler, --type, --reason, --since or --until, "
            "which are combined; or say --all.",
        )
    return which


def described(which: Letters) -> str:
    """Say which ones are meant, for a sentence that there are none."""
    parts = [
        *(f"with an id that begins with {prefix}" for prefix in which.prefixes[:3]),
        *([f"of handler {which.handler}"] if which.handler else []),
        *([f"of type {which.type}"] if which.type else []),
        *([f"with {which.reason!r} in the reason"] if which.reason else []),
        *([f"since {_at(which.since_ms)}"] if which.since_ms is not None else []),
        *([f"from before {_at(which.until_ms)}"] if which.until_ms is not None else []),
    ]
    return f"There is no open dead letter{''.join(f' {part},' for part in parts).rstrip(',')}."


def _narrows(which: Letters) -> bool:
    return bool(
        which.prefixes
        or which.handler
        or which.type
        or which.reason
        or which.since_ms is not None
        or which.until_ms is not None
    )


def _at(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, tz=dt.UTC).isoformat(timespec="seconds")
