"""A message from its name and its fields, as people and files write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rolekit.config import nearest
from rolekit.errors import CodecError, ConfigError
from rolekit.model.codec import Codec
from rolekit.model.message import AnyMessage, wire_of

if TYPE_CHECKING:
    from rolekit.model.plan import AppPlan


def named_message(plan: AppPlan, name: str, data: bytes) -> AnyMessage:
    """Make a message that an app takes.

    Args:
        plan: Of the app.
        name: Of its class, or on the wire.
        data: Its fields, as JSON.

    Raises:
        ConfigError: Nobody takes such a message, or its fields do not fit.
    """
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
