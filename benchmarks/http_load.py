"""A small HTTP client for load: keeps its connections, reads answers with a length.

Only the standard library, and the same for all contenders, since it runs in their process.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

REQUEST = "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"


class Asker:
    """Posts JSON to one address, on as many connections as it takes."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._head = REQUEST.format(path=path)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, said: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON says
        """Post, and return the answer.

        Raises:
            RuntimeError: The status is not 200.
        """
        body = json.dumps(said).encode()
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"{self._head}content-length: {len(body)}\r\n\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(
            int(line.partition(":")[2])
            for line in head.splitlines()
            if line.startswith("content-length")
        )
        answer = await reader.readexactly(length)
        self._idle.append((reader, writer))
        if " 200 " not in head.partition("\r\n")[0]:
            raise RuntimeError(f"{head.partition(chr(13))[0]}: {answer!r}")
        return json.loads(answer)
