"""Send an order of `long_app`, and print what its gather tells: kind, parts."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from tests.process.long_app import Heaped, Ordered, Told, app


async def main(kind: str, parts: int) -> None:
    """Send and wait."""
    message = Ordered(parts=parts) if kind == "Ordered" else Heaped(parts=parts)
    async with app.client() as client:
        sent = await client.send(message)
        async for told in client.follow(sent, until=Told, timeout_s=7200):
            sys.stdout.write(msgspec.json.encode(told).decode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
