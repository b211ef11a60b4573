"""`topology plan` and `apply`: the queues that an app wants, and those on the broker."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.console import FAILED, out, out_json, say
from rolekit.cli.options import (
    AppOption,
    ConfigOption,
    JsonOption,
    SetOption,
    WaitOption,
    described,
    settings,
)
from rolekit.cli.tables import table

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.config import Config
    from rolekit.transport.rabbitmq.migrate import Applied
    from rolekit.transport.rabbitmq.plan import Planned
    from rolekit.wiring.topology import Topology

topology = typer.Typer(
    no_args_is_help=True,
    help="Compare queues on RabbitMQ with what an app wants; migrate them.",
)

_COLUMNS = (("QUEUE", False), ("STATE", False), ("DIFFERENCE", False), ("APPLY WOULD", False))
_IN_DATABASE = "The queues are in the database, which `rolekit migrate` brings up to date."


@topology.command()
def plan(
    *,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    wait_s: WaitOption = 10,
    as_json: JsonOption = False,
) -> None:
    """Show which queues are missing or differ; 1 when there are any. Changes nothing."""
    found = asyncio.run(_plan(settings(app, sets, config_file), wait_s))
    if as_json:
        out_json([_as_data(one) for one in found])
    elif found:
        table(_COLUMNS, [row for one in found for row in _rows(one)])
        for line in _what_anew_means(found):
            say(line)
    if not all(one.is_done for one in found):
        raise typer.Exit(FAILED)


@topology.command()
def apply(  # noqa: PLR0913 - given by name, each with its default
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Though the app is running, or others publish: messages may be lost.",
        ),
    ] = False,
    bound: Annotated[
        list[str] | None,
        typer.Option(
            metavar="QUEUE=EXCHANGE[:KEY]",
            help="A binding that the queue has: AMQP does not tell. Give all there are.",
        ),
    ] = None,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    wait_s: WaitOption = 10,
    as_json: JsonOption = False,
) -> None:
    """Make queues that are missing, and make anew those that differ, with their messages."""
    config = settings(app, sets, config_file)
    done = asyncio.run(_apply(config, wait_s, bound or [], force=force, quiet=as_json))
    if as_json:
        out_json([
            {
                "queue": one.queue,
                "did": one.did,
                "messages": one.messages,
                "missing_s": round(one.missing_s, 4),
            }
            for one in done
        ])  # fmt: skip
    elif not done:
        out("Every queue is as it should be.")


async def _plan(config: Config, wait_s: float) -> Sequence[Planned]:
    async with _open(config, wait_s) as there:
        return [] if there is None else await there.plan()


async def _apply(
    config: Config, wait_s: float, bound: Sequence[str], *, force: bool, quiet: bool
) -> Sequence[Applied]:
    async with _open(config, wait_s) as there:
        return (
            []
            if there is None
            else await there.apply(force=force, bound=bound, say=_ignore if quiet else _tell)
        )


@asynccontextmanager
async def _open(config: Config, wait_s: float) -> AsyncGenerator[Topology | None]:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    found = described(config)
    await wiring.wait_for_broker(config.broker, wait_s, say)
    link = wiring.open_topology(
        found.app, config.database, config.broker, found.queues, [*found.sources.values()]
    )
    async with link as there:
        if there is None:
            say(_IN_DATABASE)
        yield there


def _tell(one: Applied) -> None:
    line = f"{one.queue}: {one.did}"
    if one.messages:
        line += f", {one.messages:,} message{'s' * (one.messages != 1)} moved"
    if one.missing_s:
        line += f", missing for {one.missing_s * 1000:.0f} ms"
    out(line)
    if one.missing_s:
        say(
            f"What was published to {one.queue} by its name in that moment came back if it was "
            "mandatory, and is lost otherwise; what was on its way when the queue was deleted "
            "is lost either way."
        )


def _ignore(_: Applied) -> None:
    """Say nothing: the result is for a program."""


def _rows(one: Planned) -> list[tuple[str, str, str, str]]:
    """Give a queue one line for each way in which it differs, or would lose messages."""
    why = {danger.partition(" ")[0]: danger for danger in one.dangers}
    lines: list[str] = []
    for difference in one.differences:
        danger = why.pop(difference.argument, "").partition(": ")[2]
        lines.append(f"{difference}: {danger}" if danger else str(difference))
    lines += why.values()
    first = (one.queue.name, one.state, lines[0] if lines else "", one.action)
    return [first, *(("", "", line, "") for line in lines[1:])]


def _what_anew_means(found: Sequence[Planned]) -> list[str]:
    """Say what befalls others while a queue is made anew."""
    first = next((one.queue.name for one in found if one.state == "differs"), None)
    if first is None:
        return []
    return [
        f"Anew: its messages go to {first}@migrating, it is deleted and made, they come back.",
        "Stop the app first, and whoever publishes to the queue by its name, or apply refuses.",
        "Exchanges that it is bound to may be published to meanwhile; name each binding,",
        f"which is gone otherwise: apply --bound {first}=EXCHANGE:KEY",
    ]


def _as_data(one: Planned) -> dict[str, object]:
    return {
        "queue": one.queue.name,
        "state": one.state,
        "differences": [
            {"argument": it.argument, "there": it.there, "wanted": it.wanted}
            for it in one.differences
        ],
        "dangers": one.dangers,
        "messages": one.counts.messages,
        "consumers": one.counts.consumers,
        "apply": one.action,
    }
