"""What a user has to be allowed in the app's schema: asked at the start, said as grants.

    owner   makes and changes tables: who runs `rolekit migrate`
    app     reads and writes rows, and calls the functions that make and drop days

Whoever runs roles needs the second, and neither owns nor creates anything.

Source: RELIABILITY 9 T4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.database import load_queries
from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from rolekit.database import Database

INSUFFICIENT = "42501"
"""What Postgres calls a right that lacks."""


async def check(database: Database) -> None:
    """Make sure that this user may do what every process of the app has to.

    Raises:
        ConfigError: It may not; the fix is the grants.
        Unavailable: The server cannot be reached.
    """
    schema = database.schema
    sql = load_queries("rolekit.store.sql", "queries.sql", schema)["lacking_rights"]
    async with database.connection() as connection:
        lacking = await connection.fetch(sql)
    if not lacking:
        return
    user, what = str(lacking[0]["who"]), str(lacking[0]["what"])
    more = f", nor {len(lacking) - 1} more of the kind" if len(lacking) > 1 else ""
    raise ConfigError(
        f"User {user} has no {what}{more}.",
        fix="Grant it, as the owner: "
        f"grant select, insert, update, delete on all tables in schema {schema} to {user}; "
        f"grant usage on all sequences in schema {schema} to {user}; "
        f"grant execute on all functions in schema {schema} to {user};",
    )
