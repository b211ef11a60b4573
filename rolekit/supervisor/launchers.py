"""The way of instances to the launcher of containers, by a door for each role."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    import socket

    from rolekit.guest.container import Order
    from rolekit.guest.launching import Launching
    from rolekit.supervisor.host import Ground
    from rolekit.supervisor.wire import Described


class Launchers:
    """Lets instances have containers that their app declares; starts nothing if it has none.

    Args:
        app: Name of the app.

    Attributes:
        doors: By the name of roles; a new version of the app may add some.
    """

    def __init__(self, app: str) -> None:
        self._app = app
        self._launching: Launching | None = None
        self.doors: dict[str, socket.socket] = {}

    async def open(self, app: Described) -> None:
        """Let the launcher start what an app declares.

        Raises:
            ConfigError: There can be no launcher.
        """
        for role in app.roles:
            if role.containers:
                orders = cast("tuple[Order, ...]", role.containers)
                try:
                    self.doors[role.name] = await self._started().door(role.name, orders)
                except ConfigError as error:
                    guest = f"{role.name}.{orders[0]['guest']}"
                    raise ConfigError(f"{guest}: {error.what}", fix=error.fix) from error

    def adopting(self, ground: Ground) -> Ground:
        """Have the launcher know, too, what another version of the app needs."""

        async def adopt(app: Described) -> None:
            await self.open(app)
            await ground.adopt(app)

        return dataclasses.replace(ground, adopt=adopt)

    async def stop(self) -> None:
        """End the launcher, and so what it has started."""
        if self._launching is not None:
            await self._launching.stop()

    def _started(self) -> Launching:
        if self._launching is None:
            # Loads all that guests are made of, and few apps have one in a container.
            from rolekit.guest.launching import Launching  # noqa: PLC0415

            self._launching = Launching(self._app)
        return self._launching
