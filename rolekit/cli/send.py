"""`send`: one message from the command line."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rolekit.cli.console import out, out_json
from rolekit.cli.ground import database_of
from rolekit.cli.options import (
    AppOption,
    ConfigOption,
    JsonOption,
    SetOption,
    WaitOption,
    loaded,
    settings,
)
from rolekit.config import Config, nearest
from rolekit.errors import CodecError, ConfigError
from rolekit.model.codec import Codec
from rolekit.model.message import AnyMessage, wire_of

if TYPE_CHECKING:
    from rolekit.model.plan import AppPlan
    from rolekit.roles.app import App


def send(  # noqa: PLR0913 - each is an option of the command
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Name of the message class.")],
    body: Annotated[
        str, typer.Argument(metavar="JSON", help="Its fields; - reads standard input.")
    ] = "{}",
    *,
    key: Annotated[
        str, typer.Option("--key", help="Idempotency key: a repeat sends nothing.")
    ] = "",
    delay_s: Annotated[float, typer.Option("--delay", min=0, help="Seconds.")] = 0,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
    wait_s: WaitOption = 10,
    as_json: JsonOption = False,
) -> None:
    """Send one message; return when it is durable."""
    config = settings(app, sets, config_file)
    found = loaded(config)
    data = sys.stdin.buffer.read() if body == "-" else body.encode()
    message = _decoded(found.plan(), type_, data)
    receipt_id = asyncio.run(_send(config, found, message, (key or None, delay_s, wait_s)))
    if as_json:
        out_json({"id": receipt_id})
    else:
        out(receipt_id)


def _decoded(plan: AppPlan, name: str, data: bytes) -> AnyMessage:
    types = {wire: cls for wire, cls in plan.types.items() if plan.destinations.get(cls)} | {
        cls.__name__: cls for cls in plan.destinations
    }
    if name not in types:
        raise ConfigError(
            f"{plan.name} takes no message {name}.{nearest(name, types)}",
            fix=f"It takes {', '.join(sorted({cls.__name__ for cls in plan.destinations}))}.",
        )
    wire = plan.wire_names[types[name]]
    try:
        message = Codec(plan.types, plan.wire_names).decode(
            wire, wire_of(types[name]).version, "json", data
        )
    except CodecError as error:
        raise ConfigError(error.what, fix=error.fix) from error
    return cast("AnyMessage", message)


async def _send(
    config: Config, app: App, message: AnyMessage, how: tuple[str | None, float, float]
) -> str:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    key, delay_s, wait_s = how
    async with database_of(config, wait_s) as there, wiring.open_client(app, there) as client:
        receipt = await client.send(message, idempotency_key=key, delay_s=delay_s)
        return receipt.id
