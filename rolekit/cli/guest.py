"""`guest record` and `guest verify`: whether a program still does what was recorded of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from rolekit.cli.console import FAILED, out, say
from rolekit.cli.options import ConfigOption, SetOption, loaded, settings
from rolekit.config.values import nearest
from rolekit.errors import ConfigError
from rolekit.guest.crew import guests_running
from rolekit.guest.declare import Guest, guests_of
from rolekit.guest.replay import Case, cases_in, differences, run_case, why_unrecordable
from rolekit.observe import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.config import Config

guest = typer.Typer(
    no_args_is_help=True,
    help="Record what a guest answers, and see that another does the same.",
)

AppName = Annotated[str, typer.Argument(metavar="MODULE:NAME", help="The app.")]
GuestName = Annotated[str, typer.Argument(metavar="ROLE.GUEST", help="As it is declared.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="With a file for each input.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Also what has been recorded already.")
]


@guest.command()
def record(
    app: AppName,
    name: GuestName,
    folder: Folder,
    *,
    overwrite: Overwrite = False,
    sets: SetOption = None,
    config_file: ConfigOption = "",
) -> None:
    """Run a folder of inputs through a guest, and write down what it answers.

    Beside each input NAME there is NAME.out then, and NAME.status. Lines of NAME.args are
    arguments of an Exec.
    """
    found, cases = _found(settings(app, sets, config_file), name, folder)
    todo = [case for case in cases if overwrite or not case.is_recorded]
    for case, answer in asyncio.run(_answers(name, found, todo)):
        case.record(answer)
        out(f"recorded  {case.name}  {answer.status}  {len(answer.out)} bytes")
    kept = len(cases) - len(todo)
    if kept:
        say(f"{_count(kept)} recorded already; --overwrite records them again.")


@guest.command()
def verify(
    app: AppName,
    name: GuestName,
    folder: Folder,
    *,
    sets: SetOption = None,
    config_file: ConfigOption = "",
) -> None:
    """Run a folder of inputs through a guest, and compare with what was recorded; else 1."""
    found, cases = _found(settings(app, sets, config_file), name, folder)
    wrong = 0
    for case in cases:
        if not case.is_recorded:
            out(f"differs  {case.name}: it was never recorded")
            wrong += 1
    recorded = [case for case in cases if case.is_recorded]
    for case, answer in asyncio.run(_answers(name, found, recorded)):
        lines = differences(case, answer)
        wrong += bool(lines)
        for line in (f"differs  {case.name}: {lines[0]}", *lines[1:]) if lines else ():
            out(line)
    out(f"{_count(len(cases))}, {len(cases) - wrong} as recorded, {wrong} different")
    if wrong:
        raise typer.Exit(FAILED)


def _found(config: Config, name: str, folder: Path) -> tuple[Guest[Any], list[Case]]:
    """Find a guest, and the inputs for it.

    Raises:
        ConfigError: There is none of that name, or it cannot be recorded, or no input.
    """
    logs.set_up(config.log, config.log_format, app=config.app)
    app = loaded(config)
    declared = {
        f"{role.__name__}.{each.name}": each for role in app.roles for each in guests_of(role)
    }
    if name not in declared:
        known = ", ".join(declared) or "none"
        raise ConfigError(
            f"{app.name} has no guest {name!r}.{nearest(name, declared)}",
            fix=f"Its guests are: {known}.",
        )
    found = cast("Guest[Any]", declared[name])
    if why := why_unrecordable(found.speaks):
        raise ConfigError(f"{name} cannot be recorded: {why}")
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is no folder.", fix="Name one with inputs in it.")
    cases = cases_in(folder)
    if not cases:
        raise ConfigError(
            f"There is no input in {str(folder)!r}.",
            fix="Put a file into it for each message that the guest shall be asked.",
        )
    return found, cases


async def _answers(name: str, found: Guest[Any], cases: list[Case]) -> list[Any]:
    """Run inputs through a guest, one after another."""
    role_name, _, attribute = name.partition(".")
    role = type(role_name, (), {attribute: found})()
    if not cases:
        return []
    async with guests_running(role):
        speaks: Callable[[Case], Any] = lambda case: run_case(  # noqa: E731
            found.speaks, getattr(role, attribute), case
        )
        return [(case, await speaks(case)) for case in cases]


def _count(number: int) -> str:
    return f"{number} input{'' if number == 1 else 's'}"
