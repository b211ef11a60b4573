"""Making mailflow's own tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

if TYPE_CHECKING:
    from rolekit.flow.context import Transaction


def _statements() -> list[LiteralString]:
    path = Path(__file__).parent / "schema.sql"
    # Any: the file is as much a part of the program as a literal, but no type can say so.
    text: Any = re.sub(r"^--.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [statement for part in text.split(";") if (statement := part.strip())]


STATEMENTS = _statements()


async def create(tx: Transaction) -> None:
    """Make what is missing; instances that start together take turns.

    Where all is there nothing is said: even `if not exists` waits for whoever writes.
    """
    there = "select 1 from pg_tables where schemaname = 'mail' and tablename = 'report'"
    if await tx.fetch_one(int, there):
        return
    await tx.execute("select pg_advisory_xact_lock(hashtext('mailflow schema'))")
    for statement in STATEMENTS:
        await tx.execute(statement)
