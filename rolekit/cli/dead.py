"""`dead`: messages that will not be handled unless somebody replays them."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import sys
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from rolekit.cli.console import FAILED, out, out_json, say
from rolekit.cli.dead_choice import (
    AllOption,
    AnsweredOption,
    DryRunOption,
    HandlerOption,
    IdsArgument,
    LimitOption,
    ReasonOption,
    SinceOption,
    TypeOption,
    UntilOption,
    chosen,
    deliberate,
    described,
)
from rolekit.cli.ground import database_of
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, settings, target
from rolekit.cli.tables import console, table
from rolekit.clock import as_datetime
from rolekit.errors import RolekitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rolekit.config import Config
    from rolekit.store.base import DeadLetterRow, Letters
    from rolekit.wiring.operator import DeadLetters

T = TypeVar("T")

_WAIT_S = 10
_CHUNK = 500
"""Dead letters replayed in one transaction, where no rate is given."""
_TURN_S = 0.1
_ROOMY = 110
"""Columns of a terminal in which whole ids leave room for the rest."""
_SHORT_ID = 12

dead = typer.Typer(no_args_is_help=True, help="Look at dead letters; replay or drop them.")

_IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As listed, or how it begins.")]


@dead.command("list")
def list_(  # noqa: PLR0913 - each is an option of the command
    ids: IdsArgument = None,
    *,
    handler: HandlerOption = "",
    type_: TypeOption = "",
    reason: ReasonOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    answered: AnsweredOption = False,
    limit: LimitOption = 100,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """List open dead letters, newest first."""
    which = chosen(
        ids, handler=handler, type_=type_, reason=reason, since=since, until=until,
        answered=answered,
    )  # fmt: skip
    config = settings(app, sets, config_file)
    rows = _ask(config, lambda letters: letters.list(which, limit=limit))
    if not rows:
        say(described(which))
    _show_all(rows, as_json=as_json)


@dead.command()
def show(
    id_: _IdArgument,
    *,
    values: Annotated[
        bool, typer.Option("--values", help="Also what the database said, with values.")
    ] = False,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: its message, and why it could not be handled."""
    row, body = _ask(settings(app, sets, config_file), lambda letters: letters.show(id_))
    data = {**_as_data(row), "body": body, "traceback": row.traceback}
    if row.detail:
        data["detail"] = row.detail if values else "hidden: it has values in it; see --values"
    if as_json:
        out_json(data)
        return
    for name, value in data.items():
        out(f"{name + ':':<12} {_plain(value)}")


@dead.command()
def replay(  # noqa: PLR0913 - each is an option of the command
    ids: IdsArgument = None,
    *,
    everything: AllOption = False,
    handler: HandlerOption = "",
    type_: TypeOption = "",
    reason: ReasonOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    answered: AnsweredOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also those that may have been handled already.")
    ] = False,
    rate: Annotated[
        float, typer.Option("--rate", min=0, metavar="N", help="At most so many a second.")
    ] = 0,
    dry_run: DryRunOption = False,
    limit: LimitOption = 100_000,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Send dead letters again, as the next generation of their message; oldest first."""
    which = chosen(
        ids, handler=handler, type_=type_, reason=reason, since=since, until=until,
        answered=answered,
    )  # fmt: skip
    deliberate(which, everything=everything)

    async def send(letters: DeadLetters, these: Sequence[str]) -> int:
        done = 0
        size = max(1, round(rate * _TURN_S)) if rate else _CHUNK
        for at in range(0, len(these), size):
            some = these[at : at + size]
            done += await letters.replay(some, force=force, answered=answered)
            if rate and at + size < len(these):
                await asyncio.sleep(len(some) / rate)
        return done

    config = settings(app, sets, config_file)
    _change(
        config, which, ("replay", "replayed", send), limit, dry_run=dry_run, as_json=as_json
    )


@dead.command()
def drop(  # noqa: PLR0913 - each is an option of the command
    ids: IdsArgument = None,
    *,
    everything: AllOption = False,
    handler: HandlerOption = "",
    type_: TypeOption = "",
    reason: ReasonOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    dry_run: DryRunOption = False,
    limit: LimitOption = 100_000,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Close dead letters for good; their messages will never be handled."""
    which = chosen(ids, handler=handler, type_=type_, reason=reason, since=since, until=until)
    deliberate(which, everything=everything)
    config = settings(app, sets, config_file)

    async def close(letters: DeadLetters, these: Sequence[str]) -> int:
        return sum([await letters.drop(some) for some in _chunks(these)])

    _change(config, which, ("drop", "dropped", close), limit, dry_run=dry_run, as_json=as_json)


@dead.command()
def edit(
    id_: _IdArgument,
    body: Annotated[
        str, typer.Argument(metavar="JSON", help="All its fields; - reads standard input.")
    ],
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Change the message of a dead letter; `dead replay` then sends it.

    It must be such a message, or nothing is changed.
    """
    data = sys.stdin.buffer.read() if body == "-" else body.encode()

    async def change(letters: DeadLetters) -> DeadLetterRow:
        row = await letters.edit(id_, data)
        await _note(letters, "edit", row.id, "edited")
        return row

    row = _ask(settings(app, sets, config_file), change)
    if as_json:
        out_json({"edited": row.id})
    else:
        out(f"edited: {row.id}")
        out(f"`rolekit dead replay {row.id}` sends it.")


_Work = tuple[str, str, "Callable[[DeadLetters, Sequence[str]], Awaitable[int]]"]
"""What it is called, what is said of those to which it was done, and what does it."""


def _change(
    config: Config, which: Letters, work: _Work, limit: int, *, dry_run: bool, as_json: bool
) -> None:
    """Do something to all that are meant, and say to how many.

    Raises:
        RolekitError: There is none.
    """
    act, verb, do = work

    async def run(letters: DeadLetters) -> tuple[Sequence[DeadLetterRow], int]:
        rows = await letters.list(which, limit=limit)
        if dry_run or not rows:
            return rows, 0
        ids = [row.id for row in reversed(rows)]
        outcome = "did not finish"
        try:
            done = await do(letters, ids)
            outcome = f"{verb}: {done} of {len(ids)}"
        finally:
            await _note(letters, act, ", ".join(ids), outcome)
        return rows, done

    rows, done = _ask(config, run)
    if not rows:
        raise RolekitError(described(which), fix="`rolekit dead list` has all that are open.")
    if dry_run:
        _show_all(rows, as_json=as_json)
        say(f"{len(rows)} would be {verb}; nothing was changed.")
        return
    left = len(rows) - done
    if as_json:
        out_json({verb: done, "left": left})
    else:
        out(f"{verb}: {done}")
    if left:
        say(f"left: {left} (closed meanwhile, or only with --force)")
        raise typer.Exit(FAILED)


async def _note(letters: DeadLetters, act: str, what: str, outcome: str) -> None:
    """Keep who did this; that it cannot be kept undoes nothing."""
    from rolekit.store.postgres.audit import Act  # noqa: PLC0415 - see _asked

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # as in containers: a number without a name
        user = str(os.getuid())
    who = f"{user}@{socket.gethostname()}"
    try:
        await letters.note(Act(who=who, act=act, what=what, outcome=outcome))
    except RolekitError as error:
        say(f"`rolekit audit` will not show this: {error.what}")


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[at : at + _CHUNK] for at in range(0, len(ids), _CHUNK)]


def _show_all(rows: Sequence[DeadLetterRow], *, as_json: bool) -> None:
    if as_json:
        out_json([_as_data(row) for row in rows])
        return
    columns = (("ID", False), ("HANDLER", False), ("TYPE", False), ("ATTEMPTS", True))
    if rows:
        ids = _short_ids(rows) if console().width < _ROOMY else [row.id for row in rows]
        table(
            (*columns, ("SINCE", False), ("REASON", False)),
            [
                (id_, row.handler, row.type, str(row.attempts), _at(row), row.reason)
                for id_, row in zip(ids, rows, strict=True)
            ],
            spare=("TYPE", "ATTEMPTS"),
        )


def _short_ids(rows: Sequence[DeadLetterRow]) -> list[str]:
    """Give how the ids begin, as far as that tells them apart; commands take that."""
    short = [row.id[:_SHORT_ID] for row in rows]
    return short if len(set(short)) == len(rows) else [row.id for row in rows]


def _ask(config: Config, question: Callable[[DeadLetters], Awaitable[T]]) -> T:
    target(config)
    return asyncio.run(_asked(config, question))


async def _asked(config: Config, question: Callable[[DeadLetters], Awaitable[T]]) -> T:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    async with database_of(config, _WAIT_S) as there, wiring.dead_letters(there) as letters:
        return await question(letters)


def _as_data(row: DeadLetterRow) -> dict[str, object]:
    return {
        "id": row.id,
        "handler": row.handler,
        "type": row.type,
        "attempts": row.attempts,
        "since": _at(row),
        "reason": row.reason,
        "closed": row.is_closed,
        "state": _state(row),
        "force": row.is_forced,
        "edited": row.is_edited,
    }


def _state(row: DeadLetterRow) -> str:
    """Say what became of it: open, told (a handler is at it), or how it was closed."""
    return row.closed_how if row.is_closed else "told" if row.told else "open"


def _at(row: DeadLetterRow) -> str:
    return as_datetime(row.at_ms).isoformat(timespec="seconds")


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
