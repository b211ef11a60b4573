"""A broker that whoever starts a load test has started too, so that chaos may befall it.

Its owner offers it at a Unix socket, whose path `rolekit load` is given in the environment;
each connection carries one order and its answer. A broker that others use is never touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socketserver
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rolekit.errors import RolekitError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

VARIABLE = "LOAD_BROKER_SOCKET"
RESTART_S = 120.0


class Own(Protocol):
    """What can be done to it. All of it blocks."""

    def close_all_connections(self) -> int:
        """Close them; return how many they were."""
        ...

    def restart(self) -> None:
        """Stop it as a careful administrator does, and start it again."""
        ...


@contextlib.contextmanager
def offered(broker: Own) -> Generator[dict[str, str]]:
    """Let `rolekit load` disturb a broker inside the block.

    Yields:
        What belongs into its environment.
    """

    class Order(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(_done(broker, self.rfile.readline().strip()).encode())

    with (
        tempfile.TemporaryDirectory(prefix="rolekit-load-") as folder,
        socketserver.UnixStreamServer(f"{folder}/broker", Order) as server,
    ):
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
        serving.start()
        try:
            yield {VARIABLE: f"{folder}/broker"}
        finally:
            server.shutdown()
            serving.join()


def _done(broker: Own, order: bytes) -> str:
    try:
        if order == b"cut":
            return f"ok {broker.close_all_connections()}"
        broker.restart()
    except RolekitError as error:
        return f"error {error}"
    return "ok 1"


class OwnBroker:
    """The broker, as `rolekit load` reaches it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> OwnBroker | None:
        """Return the one that is offered; None: none is."""
        path = environ.get(VARIABLE, "")
        return cls(Path(path)) if path else None

    async def cut(self) -> int:
        """Close all connections with it; return how many they were.

        Raises:
            Unavailable: Its owner is gone, or it was not done.
        """
        return int(await self._ask("cut"))

    async def restart(self) -> None:
        """Stop it and start it again; return when it speaks again.

        Raises:
            Unavailable: Its owner is gone, or it was not done.
        """
        await self._ask("restart")

    async def _ask(self, order: str) -> str:
        try:
            async with asyncio.timeout(RESTART_S):
                reader, writer = await asyncio.open_unix_connection(self._path)
                with contextlib.closing(writer):
                    writer.write(f"{order}\n".encode())
                    answer = (await reader.read()).decode()
        except (OSError, TimeoutError) as error:
            raise Unavailable(
                f"Whoever offered the broker does not answer: {error}."
            ) from error
        word, _, text = answer.partition(" ")
        if word != "ok":
            raise Unavailable(f"The broker could not be disturbed: {text or 'no answer'}")
        return text
