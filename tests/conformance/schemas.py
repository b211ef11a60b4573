"""Schemas that tests have one after another: emptying one takes a tenth of making one."""

from __future__ import annotations

from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg

from rolekit.database import schema_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.connections import Pooled

_EMPTY = """
do $$ declare it record; begin
    set local session_replication_role = replica;  -- in any order, whoever refers to whom
    for it in
        select oid::regclass as name, pg_relation_size(oid) > 100000 as is_large
        from pg_class
        where relnamespace = '{s}'::regnamespace and relkind in ('r', 'p')
            and not relispartition and relname <> 'migration'
    loop
        if it.is_large then  -- what is deleted would be walked over by who comes next
            execute format('truncate %s', it.name);
        else
            execute format('delete from %s', it.name);
        end if;
    end loop;
    perform setval(oid, 1, false) from pg_class
        where relnamespace = '{s}'::regnamespace and relkind = 'S';
end $$
"""
_RELATIONS = """
select array_agg(relname::text order by relname) from pg_class
where relnamespace = to_regnamespace($1)
"""
_free: defaultdict[str, list[str]] = defaultdict(list)
_made_of: dict[str, list[str]] = {}
"""Relations of a schema as it was migrated: days come and go in tests of them."""


def take(url: str) -> str:
    """Return the name of an app that nobody else has: its schema is empty, or not there."""
    free = _free[url]
    return free.pop() if free else f"c{uuid4().hex[:12]}"


async def note(app: str, owner: Pooled) -> None:
    """Note what the schema of an app is made of, just migrated."""
    _made_of[app] = await owner.fetchval(_RELATIONS, schema_of(app))


async def give_back(url: str, app: str) -> None:
    """Empty the schema of an app, which nobody uses any more, for who comes next."""
    schema = schema_of(app)
    owner = await asyncpg.connect(url)
    try:
        if await owner.fetchval(_RELATIONS, schema) == _made_of.pop(app, None):
            await owner.execute(_EMPTY.replace("{s}", schema))
            _free[url].append(app)
        else:
            await owner.execute(f"drop schema if exists {schema} cascade")
    finally:
        await owner.close()


@asynccontextmanager
async def lent(url: str) -> AsyncGenerator[str]:
    """Have one inside the block."""
    app = take(url)
    yield app
    await give_back(url, app)  # of a test that failed it may be in use still
