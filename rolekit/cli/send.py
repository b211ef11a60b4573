"""`send`: one message from the command line."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

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
from rolekit.roles.named import named_message

if TYPE_CHECKING:
    from rolekit.config import Config
    from rolekit.model.message import AnyMessage
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
    message = named_message(found.plan(), type_, data)
    receipt_id = asyncio.run(_send(config, found, message, (key or None, delay_s, wait_s)))
    if as_json:
        out_json({"id": receipt_id})
    else:
        out(receipt_id)


async def _send(
    config: Config, app: App, message: AnyMessage, how: tuple[str | None, float, float]
) -> str:
    from rolekit import wiring  # noqa: PLC0415 - `rolekit ps` should not wait for drivers

    key, delay_s, wait_s = how
    async with database_of(config, wait_s) as there, wiring.open_client(app, there) as client:
        receipt = await client.send(message, idempotency_key=key, delay_s=delay_s)
        return receipt.id
