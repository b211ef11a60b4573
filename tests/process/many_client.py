"""Sends messages to `many_app`: python -m tests.process.many_client CLASS FIRST COUNT [RATE].

RATE is messages/s; without it all leave together.
"""

from __future__ import annotations

import asyncio
import sys
import time

from tests.process import many_app


async def main(name: str, first: int, count: int, rate: float = 0) -> None:
    """Send so many, numbered from the first on."""
    kind = {"Work": many_app.Work, "Note": many_app.Note, "Hold": many_app.Hold}[name]
    async with many_app.app.client() as client:
        if not rate:
            await client.send_many(
                kind(number=number) for number in range(first, first + count)
            )
            return
        begun = time.monotonic()
        for number in range(count):  # one that is late does not hold up the others
            await asyncio.sleep(begun + number / rate - time.monotonic())
            await client.send(kind(number=first + number))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
