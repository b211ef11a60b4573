"""Changing into how many partitions the keys of a role are divided: by drain.

A key would go to another partition, and overtake what is still in its old one. So nothing
may be left there, and nobody may run who computes with the old number. Dead letters, and
the keys that they hold, are told their new partitions.

Source: DESIGN "Order (b)", "change = drain".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.database import Database, load_queries
from rolekit.errors import ConfigError
from rolekit.model.envelope import KeyedHead
from rolekit.model.keys import partition_of, partition_queue
from rolekit.store.letters import readable
from rolekit.store.postgres.host import count_hosts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from rolekit.connections import Pooled

    CountLeft = Callable[[Sequence[str]], Awaitable[int]]


async def divide(
    database: Database, wanted: Mapping[str, int], count_elsewhere: CountLeft
) -> list[str]:
    """Divide the keys of roles into as many partitions as their classes say.

    Args:
        database: Of the state; migrated.
        wanted: Number of partitions by role.
        count_elsewhere: Counts what is in the queues of a broker.

    Returns:
        What was done, a sentence for each role that was divided otherwise.

    Raises:
        ConfigError: One was, and something of it is left, or the app runs somewhere.
    """
    sql = load_queries("rolekit.store.sql", "queries.sql", database.schema)
    async with database.connection() as connection:
        found = await connection.fetch(sql["partition_counts"], list(wanted))
    done: list[str] = []
    for row in found:
        role, there = str(row["role"]), int(row["partitions"])
        if there != wanted[role]:
            await _check(database, sql, (role, there, wanted[role]), count_elsewhere)
            async with database.transaction() as connection:
                await _divide(connection, sql, (role, there, wanted[role]))
            done.append(f"the keys of {role}: {there} partitions became {wanted[role]}")
    return done


async def _check(
    database: Database,
    sql: Mapping[str, str],
    change: tuple[str, int, int],
    count_elsewhere: CountLeft,
) -> None:
    role, there, wanted = change
    hosts = await count_hosts(database)
    queues = [partition_queue(role, number) for number in range(there)]
    async with database.connection() as connection:
        left = int(await connection.fetchval(sql["left_in_partitions"], role, queues))
    left += await count_elsewhere(queues)
    if not hosts and not left:
        return
    why = f"{left} message{'s' * (left != 1)} of it are not handled yet"
    if hosts:
        why = f"the app runs on {hosts} host{'s' * (hosts != 1)}"
    raise ConfigError(
        f"{role} has partitions = {wanted}, but its keys are divided into {there}, and {why}.",
        fix=f"Set partitions = {there} again, let everything be handled (`rolekit ps` shows "
        "WAITING 0), stop the app on every host, then start it with the new number.",
    )


async def _divide(
    connection: Pooled, sql: Mapping[str, str], change: tuple[str, int, int]
) -> None:
    role, there, wanted = change
    row = await connection.fetchrow(sql["divide_again"], role, wanted)
    assert row is not None  # noqa: S101 - an upsert gives one
    await connection.execute(sql["make_partitions"], role, wanted, row["epoch"])
    queues = [partition_queue(role, number) for number in range(there)]
    addresses: dict[str, str] = {}
    for dead in await connection.fetch(sql["dead_in_partitions"], queues):
        head = readable(dead["head"])
        if isinstance(head, KeyedHead):
            addresses[dead["id"]] = partition_queue(role, partition_of(head.key, wanted))
    await connection.execute(sql["address_dead"], list(addresses), list(addresses.values()))
    keys = [str(held["key"]) for held in await connection.fetch(sql["held_keys"], role)]
    numbers = [partition_of(key, wanted) for key in keys]
    await connection.execute(sql["move_holds"], role, keys, numbers)
