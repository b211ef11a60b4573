"""`dead`: messages that will not be handled unless somebody replays them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from rolekit.cli.console import FAILED, out, out_json, table
from rolekit.cli.ground import database_of
from rolekit.cli.options import AppOption, ConfigOption, JsonOption, SetOption, settings, target
from rolekit.clock import as_datetime
from rolekit.errors import ConfigError, RolekitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rolekit.config import Config
    from rolekit.store.base import DeadLetterRow

T = TypeVar("T")

_WAIT_S = 10

dead = typer.Typer(no_args_is_help=True, help="Look at dead letters; replay or drop them.")

IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="ID…", help="As listed.")]
AllOption = Annotated[bool, typer.Option("--all", help="All, or all of --handler.")]
HandlerOption = Annotated[str, typer.Option("--handler", help="Only of this handler.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]


class DeadLetters(Protocol):
    """What `wiring.dead_letters` opens."""

    async def list(self, *, handler: str = "", limit: int = 100) -> Sequence[DeadLetterRow]:
        """Return open dead letters, newest first."""
        ...

    async def show(self, id_: str, /) -> DeadLetterRow | None:
        """Return one, open or closed; None: there is none of this id."""
        ...

    async def replay(self, ids: Sequence[str], *, force: bool = False) -> int:
        """Send these again; return how many were. Closed ones are left out."""
        ...

    async def drop(self, ids: Sequence[str]) -> int:
        """Close these; return how many were open."""
        ...


@dead.command("list")
def list_(
    *,
    handler: HandlerOption = "",
    limit: LimitOption = 100,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """List open dead letters, newest first."""
    config = settings(app, sets, config_file)
    rows = _ask(config, lambda letters: letters.list(handler=handler, limit=limit))
    if as_json:
        out_json([_as_data(row) for row in rows])
        return
    columns = (("ID", False), ("HANDLER", False), ("TYPE", False), ("ATTEMPTS", True))
    table(
        (*columns, ("SINCE", False), ("REASON", False)),
        [
            (row.id, row.handler, row.type, str(row.attempts), _at(row), row.reason)
            for row in rows
        ],
    )


@dead.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="As listed.")],
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: its message, and why it could not be handled."""
    row = _ask(settings(app, sets, config_file), lambda letters: letters.show(id_))
    if row is None:
        raise RolekitError(
            f"There is no dead letter {id_}.", fix="`rolekit dead list` has all."
        )
    if as_json:
        out_json(_as_data(row, whole=True))
        return
    for name, value in _as_data(row, whole=True).items():
        out(f"{name + ':':<12} {_plain(value)}")


@dead.command()
def replay(  # noqa: PLR0913 - each is an option of the command
    ids: IdsArgument = None,
    *,
    everything: AllOption = False,
    handler: HandlerOption = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also those that may have been handled already.")
    ] = False,
    limit: LimitOption = 1000,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Send dead letters again, as the next generation of their message."""
    chosen = _Choice(ids or [], everything, handler, limit)
    done = _ask(
        settings(app, sets, config_file),
        lambda letters: _each(
            letters, chosen, lambda these: letters.replay(these, force=force)
        ),
    )
    _report("replayed", *done, as_json=as_json)


@dead.command()
def drop(  # noqa: PLR0913 - each is an option of the command
    ids: IdsArgument = None,
    *,
    everything: AllOption = False,
    handler: HandlerOption = "",
    limit: LimitOption = 1000,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    as_json: JsonOption = False,
) -> None:
    """Close dead letters for good; their messages will never be handled."""
    chosen = _Choice(ids or [], everything, handler, limit)
    done = _ask(
        settings(app, sets, config_file),
        lambda letters: _each(letters, chosen, letters.drop),
    )
    _report("dropped", *done, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which dead letters are meant."""

    ids: list[str]
    everything: bool
    handler: str
    limit: int

    def __post_init__(self) -> None:
        if bool(self.ids) == self.everything:
            raise ConfigError(
                "Which dead letters?",
                fix="Name their ids, or say --all (with --handler: of one).",
            )
        if self.ids and self.handler:
            raise ConfigError("--handler goes with --all, not with ids.", fix="Leave one out.")


async def _each(
    letters: DeadLetters, chosen: _Choice, act: Callable[[Sequence[str]], Awaitable[int]]
) -> tuple[int, int]:
    """Act on what was chosen; return how many were changed, and how many were meant."""
    ids: Sequence[str] = chosen.ids
    if chosen.everything:
        rows = await letters.list(handler=chosen.handler, limit=chosen.limit)
        ids = [row.id for row in rows]
    return (await act(ids) if ids else 0), len(ids)


def _ask(config: Config, question: Callable[[DeadLetters], Awaitable[T]]) -> T:
    target(config)
    return asyncio.run(_asked(config, question))


async def _asked(config: Config, question: Callable[[DeadLetters], Awaitable[T]]) -> T:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    async with database_of(config, _WAIT_S) as there, wiring.dead_letters(there) as letters:
        return await question(letters)


def _report(verb: str, done: int, meant: int, *, as_json: bool) -> None:
    if as_json:
        out_json({verb: done, "left": meant - done})
    else:
        out(f"{verb}: {done}")
    if done < meant:
        if not as_json:
            out(f"left: {meant - done} (unknown, closed already, or only with --force)")
        raise typer.Exit(FAILED)


def _as_data(row: DeadLetterRow, *, whole: bool = False) -> dict[str, object]:
    data: dict[str, object] = {
        "id": row.id,
        "handler": row.handler,
        "type": row.type,
        "attempts": row.attempts,
        "since": _at(row),
        "reason": row.reason,
        "closed": row.is_closed,
        "force": row.is_forced,
    }
    if whole:
        data["body"] = row.packet.body.decode("utf-8", "backslashreplace")
        data["traceback"] = row.traceback
    return data


def _at(row: DeadLetterRow) -> str:
    return as_datetime(row.at_ms).isoformat(timespec="seconds")


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
