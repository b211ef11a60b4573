"""Making mailflow's own tables.

`MailFront` does it at its first start. Where it has no right to, whoever has runs
`python -m examples.mailflow.schema` before, with the same settings as `rolekit migrate`.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import asyncpg

from rolekit import config
from rolekit.errors import RolekitError

if TYPE_CHECKING:
    from rolekit.flow.context import Transaction


def _statements() -> list[LiteralString]:
    path = Path(__file__).parent / "schema.sql"
    # Any: the file is as much a part of the program as a literal, but no type can say so.
    text: Any = re.sub(r"^--.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [statement for part in text.split(";") if (statement := part.strip())]


STATEMENTS = _statements()
_THERE = "select 1 from pg_tables where schemaname = 'mail' and tablename = 'report'"
_TURN = "select pg_advisory_xact_lock(hashtext('mailflow schema'))"


async def create(tx: Transaction) -> None:
    """Make what is missing; instances that start together take turns.

    Where all is there nothing is said: even `if not exists` waits for whoever writes.
    """
    if await tx.fetch_one(int, _THERE):
        return
    for statement in (_TURN, *STATEMENTS):
        await tx.execute(statement)


async def create_at(url: str) -> None:
    """Make what is missing in a database that nobody need use yet."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            for statement in (_TURN, *STATEMENTS):
                await connection.execute(statement)
    finally:
        await connection.close()


def main() -> int:
    """Make them in the database that settings name."""
    try:
        url = config.load(os.environ).database
        if not url:
            print("No database is named: set ROLEKIT_DATABASE.", file=sys.stderr)  # noqa: T201
            return 2
        asyncio.run(create_at(url))
    except (RolekitError, OSError, asyncpg.PostgresError) as error:
        print(f"mailflow's tables were not made: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print("mailflow's tables are there.")  # noqa: T201  a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
